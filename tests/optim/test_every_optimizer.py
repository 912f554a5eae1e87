"""What holds for an optimizer of any kind; a new file in the folder is enrolled by being there."""

import dataclasses

import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as tensor_bytes

from gpuday.core import parts
from gpuday.core.errors import UsageError
from gpuday.optim import Named, Optimizer, Refused
from gpuday.optim.sam import Sam
from gpuday.optim.shampoo import Shampoo
from gpuday.optim.soap import Soap
from gpuday.optim.sophia import Sophia

every_optimizer = pytest.mark.parametrize("name", parts.names(Optimizer))


@pytest.fixture
def take_steps(give_gradients):
    """Steps first to last - 1 at falling rates, gradients by step; a closure that asks again gets the same ones."""

    def take(stepper, parameters, first, last):
        for step in range(first, last):
            give_gradients(parameters, step)
            stepper.step(1.0 - 0.1 * step, lambda now=step, **_: give_gradients(parameters, now))

    return take


@every_optimizer
def test_three_steps_saved_loaded_and_three_more_equal_six(name, make_parameters, take_steps):
    """To the bit, through the bytes of a checkpoint, in a stepper built anew."""
    straight = make_parameters()
    take_steps(parts.find(Optimizer, name)().build(straight), straight, 0, 6)
    before = make_parameters()
    first = parts.find(Optimizer, name)().build(before)
    take_steps(first, before, 0, 3)
    saved = tensor_bytes(first.state())
    after = [dataclasses.replace(p, tensor=torch.nn.Parameter(p.tensor.detach().clone())) for p in before]
    second = parts.find(Optimizer, name)().build(after)
    second.load(load_tensors(saved))
    take_steps(second, after, 3, 6)
    for one, two in zip(straight, after, strict=True):
        assert torch.equal(one.tensor, two.tensor), one.name


@every_optimizer
def test_the_state_that_was_loaded_is_the_state_that_is_saved(name, make_parameters, take_steps):
    """Nothing is added, lost, renamed or rounded on the way."""
    parameters = make_parameters()
    stepper = parts.find(Optimizer, name)().build(parameters)
    take_steps(stepper, parameters, 0, 2)
    state = {key: tensor.clone() for key, tensor in stepper.state().items()}
    again = parts.find(Optimizer, name)().build(make_parameters())
    again.load(state)
    back = again.state()
    assert back.keys() == state.keys()
    for key, tensor in state.items():
        assert (back[key].dtype, back[key].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(back[key], tensor), key


@every_optimizer
def test_a_state_with_a_tensor_missing_is_refused(name, make_parameters, take_steps):
    """Whichever it is: `load` raises KeyError, and no run goes on with half of its state."""
    parameters = make_parameters()
    stepper = parts.find(Optimizer, name)().build(parameters)
    take_steps(stepper, parameters, 0, 2)
    state = {key: tensor.clone() for key, tensor in stepper.state().items()}
    taken = []
    for missing in state:
        again = parts.find(Optimizer, name)().build(make_parameters())
        try:
            again.load({key: tensor.clone() for key, tensor in state.items() if key != missing})
        except KeyError:
            continue
        taken.append(missing)
    assert taken == []


@every_optimizer
def test_without_gradient_norms_biases_and_scales_stay(name, make_parameters, give_gradients):
    """Vectors do not decay, whatever the optimizer does to matrices."""
    parameters = make_parameters()
    before = [p.tensor.detach().clone() for p in parameters]
    give_gradients(parameters, 0, scale=0.0)
    parts.find(Optimizer, name)().build(parameters).step(1.0, lambda **_: None)
    for p, was in zip(parameters, before, strict=True):
        if p.role == "vector":
            assert torch.equal(p.tensor, was), p.name
        assert (p.tensor.abs() <= was.abs()).all(), p.name


@every_optimizer
def test_a_step_at_multiplier_zero_moves_nothing(name, make_parameters, take_steps, give_gradients):
    """Rate zero is no update and no decay, with momentum already there."""
    parameters = make_parameters()
    stepper = parts.find(Optimizer, name)().build(parameters)
    take_steps(stepper, parameters, 0, 2)
    before = [p.tensor.detach().clone() for p in parameters]
    give_gradients(parameters, 2)
    stepper.step(0.0, lambda **_: give_gradients(parameters, 2))
    assert all(torch.equal(p.tensor, was) for p, was in zip(parameters, before, strict=True))


@every_optimizer
def test_an_optimizer_finds_the_bottom_of_a_bowl(name, make_parameters):
    """Two hundred steps on half the sum of squares, at a rate falling to zero: every parameter comes nearer to zero."""
    parameters = [
        Named(name=p.name, tensor=torch.nn.Parameter(0.05 * p.tensor.detach()), role=p.role, fused=p.fused)
        for p in make_parameters()
    ]
    before = [p.tensor.detach().norm().item() for p in parameters]
    stepper = parts.find(Optimizer, name)().build(parameters)

    def gradients(**_):
        for p in parameters:
            p.tensor.grad = p.tensor.detach().clone()

    for step in range(200):
        gradients()
        stepper.step(1.0 - step / 200, gradients)
    for p, was in zip(parameters, before, strict=True):
        assert p.tensor.detach().norm().item() < 0.8 * was, p.name


@every_optimizer
def test_the_weights_are_the_same_after_the_look_at_the_evaluation_weights(name, make_parameters, take_steps):
    """Whatever an optimizer shows inside the block, training goes on with what it had."""
    parameters = make_parameters()
    stepper = parts.find(Optimizer, name)().build(parameters)
    take_steps(stepper, parameters, 0, 2)
    before = [p.tensor.detach().clone() for p in parameters]
    with stepper.evaluation():
        assert all(torch.isfinite(p.tensor).all() for p in parameters)
    assert all(torch.equal(p.tensor, was) for p, was in zip(parameters, before, strict=True))


def with_decay(optimizer, weight_decay):
    """The same optimizer with this decay, and so those that it holds."""
    changes = {
        f.name: weight_decay if f.name == "weight_decay" else with_decay(getattr(optimizer, f.name), weight_decay)
        for f in dataclasses.fields(optimizer)
        if f.name == "weight_decay" or isinstance(getattr(optimizer, f.name), Optimizer)
    }
    return dataclasses.replace(optimizer, **changes)


@every_optimizer
def test_a_share_of_the_decay_is_a_smaller_decay(name, make_parameters, give_gradients):
    """Half of 0.5 is 0.25, to the bit, and not 0.5: the schedule of the decay reaches every optimizer and what it holds."""
    results = []
    for weight_decay, decay in ((0.5, 0.5), (0.25, 1.0), (0.5, 1.0)):
        parameters = make_parameters()
        stepper = with_decay(parts.find(Optimizer, name)(), weight_decay).build(parameters)
        for step in range(3):
            give_gradients(parameters, step)
            stepper.step(1.0, lambda now=step, p=parameters, **_: give_gradients(p, now), decay=decay)
        results.append({p.name: p.tensor.detach() for p in parameters})
    halved, half, whole = results
    for p in make_parameters():
        assert torch.equal(halved[p.name], half[p.name]), p.name
        assert torch.equal(half[p.name], whole[p.name]) == (p.role == "vector"), p.name


@every_optimizer
def test_gradients_are_left_as_they_are(name, make_parameters, give_gradients):
    """Their norm may be looked at after the step."""
    parameters = make_parameters()
    give_gradients(parameters, 0)
    before = [p.tensor.grad.clone() for p in parameters]
    stepper = parts.find(Optimizer, name)().build(parameters)
    stepper.step(1.0, lambda **_: give_gradients(parameters, 0))
    assert all(torch.equal(p.tensor.grad, was) for p, was in zip(parameters, before, strict=True))


@every_optimizer
def test_a_refusal_reaches_the_loop_and_leaves_weights_and_state(name, make_parameters, take_steps, give_gradients):
    """NaN at another point must not reach the weights: to the bit what they were, also the moments and counts."""
    parameters = make_parameters()
    stepper = parts.find(Optimizer, name)().build(parameters)
    take_steps(stepper, parameters, 0, 10)  # the eleventh is Sophia's next estimate
    weights = [p.tensor.detach().clone() for p in parameters]
    state = {key: tensor.clone() for key, tensor in stepper.state().items()}
    asked = []

    def refuse(**_):
        asked.append(None)
        raise Refused("loss is not finite")

    give_gradients(parameters, 10)
    try:
        stepper.step(1.0, refuse)
    except Refused:
        assert asked == [None]
    else:
        assert asked == []  # this one takes the gradients as they stand
        return
    assert all(torch.equal(p.tensor, was) for p, was in zip(parameters, weights, strict=True))
    assert all(torch.equal(tensor, state[key]) for key, tensor in stepper.state().items())


@pytest.mark.parametrize("name", ["sam", "sophia"])
def test_who_needs_gradients_at_other_points_asks_for_them(name, make_parameters, give_gradients):
    """Without its closure SAM is its inner optimizer, and Sophia takes the sign of the gradient."""
    parameters, asked = make_parameters(), []
    give_gradients(parameters, 0)
    parts.find(Optimizer, name)().build(parameters).step(1.0, lambda **clip: asked.append(clip))
    assert asked


@every_optimizer
def test_an_ill_conditioned_bowl_is_descended_from_the_defaults(name):
    """Curvatures from 0.01 to 1 along turned axes: three hundred steps at a falling rate take nine tenths of the loss."""
    generator = torch.Generator().manual_seed(0)
    turned, _ = torch.linalg.qr(torch.randn(64, 64, generator=generator))
    curvature = (turned * torch.logspace(-2.0, 0.0, 64)) @ turned.T
    start = 0.05 * torch.randn(8, 8, generator=generator)
    parameters = [
        Named(name="a.weight", tensor=torch.nn.Parameter(start.clone()), role="matrix"),
        Named(name="a.bias", tensor=torch.nn.Parameter(start[0].clone()), role="vector"),
    ]

    def loss():
        w, bias = parameters[0].tensor.flatten(), parameters[1].tensor
        return 0.5 * w @ curvature @ w + 0.5 * bias @ bias

    def gradients(**_):
        for p in parameters:
            p.tensor.grad = None
        loss().backward()

    before, stepper = loss().item(), parts.find(Optimizer, name)().build(parameters)
    for step in range(300):
        gradients()
        stepper.step(1.0 - step / 300, gradients)
    with stepper.evaluation():
        assert loss().item() < 0.1 * before


# From the least on: what a knob may be at its edge.
EDGES = {
    **dict.fromkeys(("eps", "graft_eps"), (0.0, 5e-324, 1e-45, 1e-38, 1e-30, 1e-24, 1e-21, 1e-18, 1e-15, 1e-12, 1e-9)),
    "least_scale": (0.0,),
    "interval": (1,),
}


def at_its_edge(optimizer):
    """The same optimizer with the least of each of those knobs that it takes, and so those that it holds."""
    for field in dataclasses.fields(optimizer):
        held = getattr(optimizer, field.name)
        values = (at_its_edge(held),) if isinstance(held, Optimizer) else EDGES.get(field.name, ())
        if values:
            optimizer = next(made for value in values if (made := accepted(optimizer, **{field.name: value})))
    return optimizer


def accepted(optimizer, **change):
    """The optimizer with the change, or None where it is refused."""
    try:
        return dataclasses.replace(optimizer, **change)
    except UsageError:
        return None


@every_optimizer
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_without_any_gradient_nothing_moves_but_by_decay(name, weight_decay, make_parameters, give_gradients):
    """Three steps at the least eps that is accepted: behind matrices that write zeros gradients are zero, to the bit."""
    parameters = make_parameters()
    before = [p.tensor.detach().clone() for p in parameters]
    stepper = with_decay(at_its_edge(parts.find(Optimizer, name)()), weight_decay).build(parameters)
    for _ in range(3):
        give_gradients(parameters, 0, scale=0.0)
        stepper.step(1.0, lambda **_: None)
    with stepper.evaluation():
        assert all(torch.isfinite(p.tensor).all() for p in parameters)
    assert all(torch.isfinite(tensor).all() for tensor in stepper.state().values())
    for p, was in zip(parameters, before, strict=True):
        assert torch.equal(p.tensor, was) or (weight_decay and p.role != "vector"), p.name


@every_optimizer
@pytest.mark.parametrize("scale", [1e-17, 1e-20, 1e-24, 1e-30])
def test_gradients_whose_squares_fp32_does_not_hold_move_no_weight_far(name, scale, make_parameters, give_gradients):
    """At the least eps that is accepted, no further than ten times what ordinary gradients do."""
    furthest = []
    for size in (0.1, scale):
        parameters = make_parameters()
        before = [p.tensor.detach().clone() for p in parameters]
        stepper = at_its_edge(parts.find(Optimizer, name)()).build(parameters)
        for step in range(3):
            give_gradients(parameters, step, scale=size)
            stepper.step(1.0, lambda now=step, p=parameters, s=size, **_: give_gradients(p, now, scale=s))
        furthest.append(max((p.tensor - was).abs().max().item() for p, was in zip(parameters, before, strict=True)))
    assert furthest[1] <= 10 * furthest[0]


@every_optimizer
def test_what_is_infinite_or_no_number_is_refused(name):
    """In every knob that is a number, by its name."""
    optimizer = parts.find(Optimizer, name)()
    for field in dataclasses.fields(optimizer):
        if field.type is float:
            for value in (float("inf"), float("-inf"), float("nan")):
                with pytest.raises(UsageError, match=f"{field.name} is"):
                    dataclasses.replace(optimizer, **{field.name: value})


DECAYS = ("beta1", "beta2", "momentum", "momentum_start", "variance")


@every_optimizer
def test_a_decay_of_one_is_refused_and_one_just_below_trains(name, make_parameters, take_steps):
    """At 1 nothing new comes in: moments stay zero, corrections divide by zero. Each on its own, three steps."""
    optimizer = parts.find(Optimizer, name)()
    for knob in sorted({f.name for f in dataclasses.fields(optimizer)} & set(DECAYS)):
        more = {"momentum_steps": 2} if knob == "momentum_start" else {}
        for value in (1.0, 0.999999, 0.0):
            chosen = accepted(optimizer, **{knob: value}, **more)
            if value == 1.0:  # of beta1 schedule_free means a place, not a decay: gradients at the average
                assert (chosen is None) == ((name, knob) != ("schedule_free", "beta1")), knob
            if chosen:
                parameters = make_parameters()
                take_steps(chosen.build(parameters), parameters, 0, 3)
                assert all(torch.isfinite(p.tensor).all() for p in parameters), (knob, value)


def test_costs_repeat_after_the_interval_of_what_is_done_now_and_then():
    """Of an optimizer within another as well; all others do the same in every update."""
    inside = {Shampoo(interval=7): 7, Soap(interval=7): 7, Sophia(interval=7): 7, Sam(inner=Soap(interval=7)): 7}
    assert {optimizer: optimizer.period for optimizer in inside} == inside
    others = {name: parts.find(Optimizer, name)().period for name in parts.names(Optimizer)}
    assert {name for name, period in others.items() if period > 1} == {"shampoo", "soap", "sophia"}
