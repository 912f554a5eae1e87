import numpy as np
import pytest
import torch

from gpuday.data.tokenizer import TextTokenizer
from gpuday.evaluate.buckets import CHUNK, dev_batches, encode, train_batches
from gpuday.evaluate.tasks import Rows


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


def test_a_batch_is_padded_to_a_multiple_of_eight_and_masked(tokenizer: TextTokenizer) -> None:
    """Tokens are the tokenizer's own, the mask ends where the row ends, and the padding is the padding id."""
    texts = ("the zebra", "the committee will publish its final report")
    rows = Rows(text_a=texts, text_b=None, labels=np.array([0, 1]))
    encoded = encode(rows, tokenizer, max_tokens=32, device=torch.device("cpu"))
    ids, mask = encoded.batch(torch.tensor([1, 0]), int(encoded.host_lengths.max()))
    assert ids.shape == mask.shape
    assert ids.shape[1] % 8 == 0 or ids.shape[1] == encoded.host_lengths.max()
    for row, text in zip(range(2), texts[::-1], strict=True):
        expected = tokenizer.encode_pair(text, None, 32)
        assert ids[row, mask[row]].tolist() == expected
        assert (ids[row, ~mask[row]] == tokenizer.pad_id).all()


def test_long_rows_are_cut(tokenizer: TextTokenizer) -> None:
    """No row has more tokens than the protocol allows."""
    rows = Rows(text_a=("word " * 100,), text_b=("other " * 100,), labels=np.array([0.0]))
    encoded = encode(rows, tokenizer, max_tokens=16, device=torch.device("cpu"))
    assert encoded.host_lengths.tolist() == [16]
    assert encoded.labels.dtype == torch.float32
