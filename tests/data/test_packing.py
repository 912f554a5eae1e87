import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpuday.data.packing import ShardPacker, surround

IDS = st.lists(st.integers(5, 99), min_size=1, max_size=12)
Arrays = tuple[NDArray[np.int64], NDArray[np.int64]]


def laid(documents: list[list[int]], *, first: int | None = None, last: int | None = None) -> Arrays:
    ids = np.array([i for d in documents for i in d], dtype=np.int64)
    return surround(ids, np.array([len(d) for d in documents], dtype=np.int64), first=first, last=last)


def test_documents_are_laid_end_to_end_with_their_special_tokens() -> None:
    """By hand: 2 is <cls>, 3 is <sep>."""
    tokens, starts = laid([[5, 6], [7]], first=2, last=3)
    assert tokens.tolist() == [2, 5, 6, 3, 2, 7, 3]
    assert starts.tolist() == [0, 4]


def test_without_special_tokens_documents_touch() -> None:
    """Both are optional."""
    tokens, starts = laid([[5, 6], [7]])
    assert tokens.tolist() == [5, 6, 7]
    assert starts.tolist() == [0, 2]


def test_rows_are_cut_and_the_rest_is_dropped() -> None:
    """Two documents of 5 and 6 tokens in rows of 4, by hand: two whole rows, three tokens left."""
    packer = ShardPacker(4)
    rows = packer.add(*laid([[10, 11, 12, 13], [20, 21, 22, 23, 24]], last=3))
    starts, dropped = packer.finish()
    assert rows.tolist() == [[10, 11, 12, 13], [3, 20, 21, 22]]
    assert starts.tolist() == [0, 5]
    assert dropped == 3


def test_a_document_in_the_dropped_rest_is_no_document_of_the_shard() -> None:
    """Its start would lie beyond the last row."""
    packer = ShardPacker(4)
    packer.add(*laid([[1, 2, 3, 4], [5, 6]]))
    starts, dropped = packer.finish()
    assert starts.tolist() == [0]
    assert dropped == 2


@given(
    batches=st.lists(st.lists(IDS, max_size=5), max_size=6), length=st.integers(1, 9), last=st.sampled_from([None, 3])
)
def test_rows_end_to_end_are_the_documents(batches: list[list[list[int]]], length: int, last: int | None) -> None:
    """However documents come in batches, the rows laid end to end are the documents, up to less than one row."""
    packer, rows = ShardPacker(length), [np.zeros(0, dtype=np.int64)]
    rows.extend(packer.add(*laid(batch, last=last)).ravel() for batch in batches)
    starts, dropped = packer.finish()
    packed = np.concatenate(rows).tolist()
    documents = [document for batch in batches for document in batch]
    stream = [i for document in documents for i in [*document, *([] if last is None else [last])]]
    assert packed == stream[: len(packed)]
    assert len(stream) - len(packed) == dropped < length
    assert [stream[start] for start in starts] == [document[0] for document in documents[: len(starts)]]
