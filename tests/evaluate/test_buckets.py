from typing import Any

import numpy as np
import pytest
import torch

from gpuday.evaluate.buckets import CHUNK, IGNORED, Encoded, dev_batches, train_batches


@pytest.mark.parametrize("count", [16, 100, 16 * CHUNK + 5, 1000])
def test_an_epoch_reads_every_row_once_but_for_the_incomplete_batch(count: int) -> None:
    """No row is read twice, and only count % 16 rows are left out, others in each epoch."""
    lengths = np.random.default_rng(0).integers(3, 128, count)
    left_out = []
    for epoch in range(3):
        batches = train_batches(lengths, 16, 0, "x", epoch)
        assert batches.shape == (count // 16, 16)
        assert len(np.unique(batches)) == count // 16 * 16
        left_out.append(frozenset(range(count)) - set(batches.ravel().tolist()))
    if count == 1000:
        assert len(set(left_out)) > 1


def test_batches_are_a_function_of_seed_name_and_epoch() -> None:
    """The same arguments give the same batches; another seed, name or epoch gives others."""
    lengths = np.random.default_rng(0).integers(3, 128, 200)
    first = train_batches(lengths, 16, 0, "x", 0)
    assert np.array_equal(first, train_batches(lengths, 16, 0, "x", 0))
    for other in ((1, "x", 0), (0, "y", 0), (0, "x", 1)):
        assert not np.array_equal(first, train_batches(lengths, 16, *other))


def test_most_of_a_batch_is_text() -> None:
    """Sorting inside chunks leaves at most a tenth of the tokens to padding; random batches would leave half."""
    lengths = np.random.default_rng(0).integers(3, 128, 4000)
    batches = train_batches(lengths, 16, 0, "x", 0)
    longest = lengths[batches].max(axis=1)
    assert lengths[batches].sum() / (16 * longest.sum()) > 0.9


def test_batches_do_not_come_in_order_of_length() -> None:
    """The longest rows are not all at the end of the epoch, where the rate is low."""
    lengths = np.random.default_rng(0).integers(3, 128, 4000)
    longest = lengths[train_batches(lengths, 16, 0, "x", 0)].max(axis=1)
    assert abs(np.corrcoef(np.arange(len(longest)), longest)[0, 1]) < 0.2


def test_dev_batches_read_every_row_once() -> None:
    """The last batch holds what is left, so that nothing goes unscored."""
    batches = dev_batches(np.random.default_rng(0).integers(3, 128, 150), 64)
    assert [len(b) for b in batches] == [64, 64, 22]
    assert sorted(np.concatenate(batches).tolist()) == list(range(150))


def rows_of(lengths: list[int], **more: Any) -> Encoded:
    """Rows of ids from 1 on, padded with 0."""
    ids = torch.zeros(len(lengths), max(lengths), dtype=torch.int32)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.arange(1, length + 1)
    values = np.array(lengths)
    candidates = more.get("candidates", 1)
    host = values.reshape(-1, candidates).max(1)
    labels = more.pop("labels", torch.arange(len(host)))
    return Encoded(ids=ids, lengths=torch.from_numpy(values), host_lengths=host, labels=labels, **more)


def test_a_batch_is_padded_to_a_multiple_of_eight_and_masked() -> None:
    """Ids are the rows' own, the mask ends where the row ends; a batch is never wider than the longest row there is."""
    rows = rows_of([3, 10, 21])
    for chosen, width in (([0], 8), ([1, 0], 16), ([2, 1], 21)):
        longest = int(rows.host_lengths[chosen].max())
        ids, mask, types = rows.batch(torch.tensor(chosen), longest)
        assert (ids.shape, types) == ((len(chosen), width), None)
        assert mask.sum(1).tolist() == rows.host_lengths[chosen].tolist()
        assert ((ids > 0) == mask).all()


def test_candidates_come_row_by_row() -> None:
    """Two rows of three candidates each make six token rows, in the order of rows and candidates."""
    rows = rows_of([4, 5, 6, 7, 8, 9], candidates=3)
    assert rows.host_lengths.tolist() == [6, 9]
    _, mask, _ = rows.batch(torch.tensor([1, 0]), 9)
    assert mask.sum(1).tolist() == [7, 8, 9, 4, 5, 6]
    assert rows.targets(torch.tensor([1, 0]), 9).tolist() == [1, 0]


def test_targets_of_tokens_are_cut_like_the_batch() -> None:
    """Tagging has a target for every position of the batch; spans and classes are what they are."""
    tags = torch.full((3, 21), IGNORED)
    assert rows_of([3, 10, 21], labels=tags).targets(torch.tensor([1, 0]), 10).shape == (2, 16)
    spans = rows_of([3, 10, 21], labels=torch.tensor([[0, 1], [2, 3], [4, 5]]))
    assert spans.targets(torch.tensor([2, 0]), 21).tolist() == [[4, 5], [0, 1]]


def test_types_are_padded_and_cut_like_the_ids() -> None:
    """What a body that has token types is handed beside the ids."""
    types = torch.tensor([[0, 1, 1, 0], [0, 0, 1, 1]], dtype=torch.int8)
    _, _, batch = rows_of([3, 4], types=types).batch(torch.tensor([1]), 4)
    assert batch is not None
    assert (batch.tolist(), batch.dtype) == ([[0, 0, 1, 1]], torch.int64)
