"""Lion by the algorithm of its paper."""

from gpuday.optim.lion import Lion


def test_lion_moves_by_the_sign_of_a_nearer_average_than_it_keeps(follow):
    """Sign of beta1 m + (1 - beta1) g with the m of before; then m with beta2; decay inside the rate."""

    def formula(w, g, state, step, rate, decay):
        m = state.get("m", 0.0 * g)
        state["m"] = 0.95 * m + 0.05 * g
        return w - rate * ((0.7 * m + 0.3 * g).sign() + decay * w)

    follow(Lion(lr=0.05, beta1=0.7, beta2=0.95, weight_decay=0.3), formula)
