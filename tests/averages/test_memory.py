"""Room for copies, the exchange with the weights, and when a snapshot is due."""

import pytest
import torch

from gpuday.averages._memory import Spacing, holding, restore, room, saved


def test_room_is_fp32_beside_the_parameters():
    """One tensor for each, none of which is trained; on the device that is named, if one is."""
    parameters = {
        "a": torch.nn.Parameter(torch.ones(2, 3, dtype=torch.bfloat16)),
        "b": torch.nn.Parameter(torch.ones(())),
    }
    for device in ("", "cpu"):
        places = room(parameters, device=device)
        assert [t.shape for t in places] == [(2, 3), ()]
        assert all(t.dtype == torch.float32 and not t.requires_grad and not t.any() for t in places)


def test_the_parameters_own_values_come_back_to_the_bit(walk):
    """In the same memory, after an error too."""
    walk.step()
    places = [p.data_ptr() for p in walk.parameters.values()]
    other = [torch.full_like(p, 1 / 3) for p in walk.parameters.values()]
    with pytest.raises(KeyError), holding(walk.parameters, other):
        assert (walk.here() == pytest.approx(1 / 3)) and [p.data_ptr() for p in walk.parameters.values()] == places
        raise KeyError
    assert (walk.here() == walk.places[0]).all()
    assert [p.data_ptr() for p in walk.parameters.values()] == places


def test_a_copy_is_saved_by_name_and_comes_back_in_place(walk):
    """Under the parameters' names and the copy's own; one that is missing is no copy."""
    walk.step()
    copy, other = ([p.detach().clone() for p in walk.parameters.values()] for _ in range(2))
    state = saved(walk.parameters, copy, "mean")
    assert list(state) == ["block.weight/mean", "scale/mean"]
    torch._foreach_zero_(other)
    places = [t.data_ptr() for t in other]
    restore(walk.parameters, other, "mean", state)
    assert all(torch.equal(a, b) for a, b in zip(copy, other, strict=True))
    assert [t.data_ptr() for t in other] == places
    with pytest.raises(KeyError):
        restore(walk.parameters, other, "0", state)


@pytest.mark.parametrize("steps", [10, 20, 30, 70, 1000])
def test_stretches_of_the_budget_have_one_update_each_however_many_steps_there_are(steps):
    """Ten tenths, of which the first begins at the start; a tenth is reached at 0.3, and not a step later."""
    spacing = Spacing(start=0.0, every=0.1)
    due = [step for step in range(steps) if spacing.due(step / steps)]
    assert due == [steps // 10 * i for i in range(10)]


def test_none_is_due_before_the_start_and_none_twice():
    """A clock that stands still or jumps over stretches asks for no more than one."""
    spacing = Spacing(start=0.3, every=0.2)
    fractions = [0.0, 0.29, 0.31, 0.31, 0.49, 0.51, 0.95, 1.0, 1.0]
    assert [f for f in fractions if spacing.due(f)] == [0.31, 0.51, 0.95]
    always = Spacing(start=0.3, every=0.0)
    assert [f for f in fractions if always.due(f)] == fractions[2:]
