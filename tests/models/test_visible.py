"""What tokens see of each other, against loops written out."""

import itertools

import pytest
import torch

from gpuday.models.visible import Visible, first_of_document, places_in_document

LENGTH = 12
CPU = torch.device("cpu")
SEGMENTS = torch.tensor(
    [[0] * 5 + [1] * 4 + [2] * 3, [0] * 12, [0, 1, 1, 1, 2, 3, 3, 3, 3, 3, 4, 4]], dtype=torch.int32
)
MASK = torch.arange(LENGTH) < torch.tensor([[12], [7], [1]])
GIVEN = list(itertools.product([None, 1, 2, 4], [None, MASK], [None, SEGMENTS], [False, True]))


def seen_by_loops(reach, mask, segments, causal):
    """[rows, L, L]: key j is near, real, of query i's document and, if asked, not after it; without any, i sees itself."""
    answer = torch.zeros(3, LENGTH, LENGTH, dtype=torch.bool)
    for row, i, j in itertools.product(range(3), range(LENGTH), range(LENGTH)):
        near = reach is None or abs(i - j) <= reach
        real = mask is None or bool(mask[row, j])
        same = segments is None or bool(segments[row, i] == segments[row, j])
        answer[row, i, j] = near and real and same and not (causal and j > i)
    alone = ~answer.any(-1)
    return answer | (alone[..., None] & torch.eye(LENGTH).bool())


@pytest.mark.parametrize(("reach", "mask", "segments", "causal"), GIVEN)
def test_pairs_are_near_and_real_and_of_one_document(reach, mask, segments, causal):
    """Every pair of a real query is what the loops say; None stands for everything."""
    found = Visible(mask, segments, causal=causal).pairs(reach, LENGTH, CPU)
    if reach is None and mask is None and segments is None and not causal:
        assert found is None
        return
    found = found.expand(3, 1, LENGTH, LENGTH)[:, 0]
    real = torch.ones(3, LENGTH, dtype=torch.bool) if mask is None else mask
    assert torch.equal(found[real], seen_by_loops(reach, mask, segments, causal)[real])
    assert found.any(-1).all()  # softmax over nothing is NaN


@pytest.mark.parametrize(("reach", "mask", "segments", "causal"), [given for given in GIVEN if given[0]])
def test_bands_hold_the_same_pairs(reach, mask, segments, causal):
    """Chunk c of queries sees keys from chunk c - 1 to c + 1; written into a square it is `pairs`."""
    seen = Visible(mask, segments, causal=causal)
    bands = seen.bands(reach, LENGTH, CPU)
    assert bands.shape[1:] == (1, LENGTH // reach, reach, 3 * reach)
    square = torch.zeros(len(bands), LENGTH, LENGTH, dtype=torch.bool)
    for row, chunk, i, j in bands[:, 0].nonzero().tolist():
        square[row, chunk * reach + i, (chunk - 1) * reach + j] = True  # an index outside the row would be refused
    assert torch.equal(square, seen.pairs(reach, LENGTH, CPU).expand(len(bands), 1, LENGTH, LENGTH)[:, 0])


def test_a_row_of_padding_sees_itself():
    """Softmax over nothing is NaN; rows with a real token stay as they are."""
    found = Visible(torch.tensor([[True, False, True], [False, False, False]])).pairs(None, 3, CPU)
    assert found[:, 0, 0].tolist() == [[True, False, True], [True, True, True]]


def test_layers_of_equal_kind_share_what_is_made():
    """The same tensor for the same reach, another one for another."""
    seen = Visible(segments=SEGMENTS)
    assert seen.pairs(2, LENGTH, CPU) is seen.pairs(2, LENGTH, CPU)
    assert seen.pairs(None, LENGTH, CPU) is not seen.pairs(2, LENGTH, CPU)


def test_every_pass_begins_with_nothing_kept():
    """What layers leave for later ones belongs to one pass."""
    first = Visible()
    first.kept["values"] = torch.ones(1)
    assert Visible().kept == {}


def test_places_count_from_the_start_of_each_document():
    """By hand, for the three rows."""
    assert places_in_document(SEGMENTS).tolist() == [
        [0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 1, 2],
        list(range(12)),
        [0, 0, 1, 2, 0, 0, 1, 2, 3, 4, 0, 1],
    ]
    assert first_of_document(SEGMENTS).sum(1).tolist() == [3, 1, 5]
