"""What holds for an average of any kind; a new file in the folder is enrolled by being there."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as tensor_bytes

from gpuday.averages import Average
from gpuday.core import parts

every_average = pytest.mark.parametrize("name", parts.names(Average))
FRACTIONS = [step / 40 for step in range(40)]


def build(name, walk):
    return parts.find(Average, name)().build(walk.parameters)


@every_average
@pytest.mark.parametrize("cut", [1, 20, 38])
def test_a_walk_that_is_cut_by_a_save_has_the_average_of_the_whole(name, cut, make_walk):
    """To the bit, through the bytes of a checkpoint, into an averager built anew, wherever it is cut."""
    whole, first = make_walk(), make_walk()
    one = build(name, whole)
    whole.follow(one, FRACTIONS)
    before = build(name, first)
    first.follow(before, FRACTIONS[:cut])
    saved = tensor_bytes(before.state())
    after = build(name, first)
    after.load(load_tensors(saved))
    first.follow(after, FRACTIONS[cut:])
    np.testing.assert_array_equal(first.average(after), whole.average(one))
    assert tensor_bytes(after.state()) == tensor_bytes(one.state())


@every_average
def test_an_average_lies_between_the_weights_that_it_is_of(name, walk):
    """Its shares are not negative and add up to one, before it is full and after."""
    averager = build(name, walk)
    for fraction in FRACTIONS:
        walk.follow(averager, [fraction])
        average, places = walk.average(averager), np.array(walk.places)
        assert (average >= places.min(axis=0) - 1e-6).all() and (average <= places.max(axis=0) + 1e-6).all()


@every_average
def test_the_state_is_the_same_inside_of_the_swap(name, walk):
    """The final checkpoint is written there, and the average is not swapped into its own place."""
    averager = build(name, walk)
    walk.follow(averager, FRACTIONS)
    outside = tensor_bytes(averager.state())
    with averager.swapped():
        assert tensor_bytes(averager.state()) == outside
    assert (walk.here() == walk.places[-1]).all()
    assert tensor_bytes(averager.state()) == outside


@every_average
def test_before_the_first_update_the_weights_are_their_own_average(name, walk):
    """An untrained model is looked at as it is."""
    averager = build(name, walk)
    walk.step()
    np.testing.assert_array_equal(walk.average(averager), walk.places[0])


@every_average
def test_a_state_with_a_tensor_missing_is_refused(name, make_walk):
    """Whichever it is: no run goes on with half of its average."""
    walk = make_walk()
    averager = build(name, walk)
    walk.follow(averager, FRACTIONS)
    state = {key: tensor.clone() for key, tensor in averager.state().items()}
    for missing in state:
        with pytest.raises(KeyError):
            build(name, walk).load({key: tensor for key, tensor in state.items() if key != missing})


@every_average
def test_what_is_averaged_are_the_weights_that_the_optimizer_evaluates(name, make_walk):
    """Those inside of its block, which are the trained ones plus 100 here, and the trained ones stay as they are."""
    plain, shifted = make_walk(), make_walk()

    @contextmanager
    def evaluation():
        own = [p.detach().clone() for p in shifted.parameters.values()]
        with torch.no_grad():
            for p in shifted.parameters.values():
                p.add_(100.0)
        yield
        with torch.no_grad():
            for p, was in zip(shifted.parameters.values(), own, strict=True):
                p.copy_(was)

    one, other = build(name, plain), build(name, shifted)
    for fraction in FRACTIONS:
        plain.follow(one, [fraction])
        shifted.step()
        other.update(fraction, evaluation)
    assert (shifted.here() == plain.here()).all()
    with evaluation():
        np.testing.assert_allclose(shifted.average(other), plain.average(one) + 100, atol=1e-4)


@every_average
def test_it_says_how_many_copies_of_the_weights_it_holds(name, walk):
    """As many as its state has when it is full, each in fp32."""
    average = parts.find(Average, name)()
    averager = average.build(walk.parameters)
    walk.follow(averager, FRACTIONS)
    copies = [tensor for key, tensor in averager.state().items() if "/" in key]
    assert sum(t.nbytes for t in copies) == average.copies * sum(4 * p.numel() for p in walk.parameters.values())


@every_average
def test_nothing_asks_for_gradients(name, walk):
    """The average is no part of any graph, and the parameters stay leaves that are trained."""
    averager = build(name, walk)
    walk.follow(averager, FRACTIONS)
    with averager.swapped():
        assert all(p.requires_grad and p.is_leaf for p in walk.parameters.values())
    assert not any(tensor.requires_grad for tensor in averager.state().values())
    assert all(p.grad is None for p in walk.parameters.values())
