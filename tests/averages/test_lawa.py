"""The mean of the latest snapshots, against the places of the walk."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from gpuday.averages.lawa import Lawa
from gpuday.core.errors import UsageError


@pytest.mark.parametrize("on_cpu", [False, True])
def test_it_is_the_mean_of_the_latest_k(walk, on_cpu):
    """Divided by how many there are, before there are k and after."""
    averager = Lawa(k=3, every=0.0, on_cpu=on_cpu).build(walk.parameters)
    for count in range(1, 8):
        walk.follow(averager, [0.5])
        expected = np.mean(walk.places[-3:], axis=0)
        assert len(walk.places[-3:]) == min(count, 3)
        np.testing.assert_allclose(walk.average(averager), expected, rtol=1e-6, atol=1e-7)


def test_snapshots_are_taken_once_in_each_stretch_of_the_budget(walk):
    """At the first update in it, and the present weights count as the newest. What is three stretches old or older is not
    in the mean of three."""
    averager = Lawa(k=3, every=0.1).build(walk.parameters)
    walk.follow(averager, [0.0, 0.05])
    np.testing.assert_array_equal(walk.average(averager), walk.places[1])
    walk.follow(averager, [0.1, 0.15, 0.19, 0.42, 0.43])
    np.testing.assert_allclose(
        walk.average(averager), np.mean([walk.places[i] for i in (5, 6)], axis=0), rtol=1e-6, atol=1e-7
    )
    walk.follow(averager, [0.5, 0.6])
    expected = np.mean([walk.places[i] for i in (5, 7, 8)], axis=0)
    np.testing.assert_allclose(walk.average(averager), expected, rtol=1e-6, atol=1e-7)
    walk.follow(averager, [0.65])
    expected = np.mean([walk.places[i] for i in (7, 8, 9)], axis=0)
    np.testing.assert_allclose(walk.average(averager), expected, rtol=1e-6, atol=1e-7)


def test_it_never_holds_more_than_k_copies(walk):
    """The oldest snapshot's memory is the newest one's."""
    averager = Lawa(k=2, every=0.0).build(walk.parameters)
    walk.follow(averager, [0.0] * 2)
    places = {t.data_ptr() for name, t in averager.state().items() if "/" in name}
    walk.follow(averager, [0.0] * 3)
    assert {t.data_ptr() for name, t in averager.state().items() if "/" in name} == places
    assert len(places) == 2 * len(walk.parameters)


@pytest.mark.parametrize("knobs", [{"k": 1}, {"every": 1.5}, {"every": 1.0}])
def test_what_is_no_window_is_refused(knobs):
    """A mean of one is no average."""
    with pytest.raises(UsageError):
        Lawa(**knobs)


@pytest.mark.parametrize("updates", [20, 100, 400, 5000])
@pytest.mark.parametrize(("k", "every"), [(5, 0.002), (3, 0.02)])
def test_the_mean_reaches_no_further_back_than_k_times_every(updates, k, every):
    """Whatever the number of updates. Each writes a place of its own, so that the mean shows what it is of and with what
    share: the present update, evenly with at most k - 1 others, one in each stretch, the oldest near enough."""
    weights = torch.nn.Parameter(torch.zeros(updates))
    averager = Lawa(k=k, every=every).build({"w": weights})
    counts = []
    for update in range(updates):
        with torch.no_grad():
            weights.zero_()[update] = 1.0
        averager.update(update / updates, nullcontext)
        if (update + 1) % (updates // 20) == 0:
            with averager.swapped():
                shares = weights.detach().clone()
            of = shares.nonzero().flatten().tolist()
            assert shares[of].tolist() == pytest.approx([1 / len(of)] * len(of))
            assert of[-1] == update and len(of) <= k
            assert (update - of[0]) / updates < k * every
            assert len({int(u / updates / every + 1e-6) for u in of[:-1]}) == len(of) - 1
            counts.append(len(of))
    if 1 / updates >= k * every:
        assert set(counts) == {1}  # the last weights alone
    if 1 / updates <= every:
        assert max(counts) == k
