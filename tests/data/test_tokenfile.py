from pathlib import Path

import numpy as np
import pytest

from gpuday.core.errors import DataError
from gpuday.data.tokenfile import TokenStore, TokenWriter

ROWS = np.arange(1, 29).reshape(7, 4)  # shards of 3, 2 and 2 rows


def write(folder: Path, *, vocab_size: int = 100) -> TokenStore:
    writer = TokenWriter(folder, length=4, vocab_size=vocab_size, vocabulary="v")
    writer.append(ROWS[:1])
    writer.append(ROWS[1:3])
    writer.end_shard("wiki", np.array([0, 5, 6]))
    writer.end_shard("wiki", np.array([], dtype=np.int64))  # no rows: no file
    writer.append(ROWS[3:5])
    writer.end_shard("books", np.array([2]))
    writer.append(ROWS[5:])
    writer.end_shard("wiki", np.array([0]))
    return writer.finish()


def test_rows_come_back_in_any_order(tmp_path: Path) -> None:
    """Random access across shards, with repetition, equals indexing the array."""
    store = write(tmp_path / "train.tok")
    indices = np.array([6, 0, 3, 3, 2, 5])
    assert store.rows(indices).tolist() == ROWS[indices].tolist()
    assert store.rows(indices).dtype == np.int64
    assert (len(store), store.length, store.vocabulary) == (7, 4, "v")
    assert np.concatenate(list(store.blocks())).tolist() == ROWS.tolist()
    assert store.rows(np.zeros(0, dtype=np.int64)).shape == (0, 4)


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_536, "<u2"), (65_600, "<u4")])
def test_ids_are_stored_in_the_smallest_type(tmp_path: Path, vocab_size: int, dtype: str) -> None:
    """Two bytes a token as long as the largest id fits."""
    assert write(tmp_path / "train.tok", vocab_size=vocab_size).index["dtype"] == dtype


def test_rows_know_their_source(tmp_path: Path) -> None:
    """By hand, for the three shards."""
    store = write(tmp_path / "train.tok")
    assert [store.sources[i] for i in store.source_of(np.arange(7))] == ["wiki"] * 3 + ["books"] * 2 + ["wiki"] * 2


def test_segments_number_the_documents_inside_a_row(tmp_path: Path) -> None:
    """By hand: documents of the first shard begin at tokens 0, 5 and 6."""
    store = write(tmp_path / "train.tok")
    assert store.segments(np.array([1, 0, 3])).tolist() == [[0, 1, 2, 2], [0, 0, 0, 0], [0, 0, 1, 1]]


@pytest.mark.parametrize("starts", [[0, 5, 6], [0], [2], [0, 4, 8], [0, 1, 2, 3, 4, 11], [0, 4, 5, 6, 7, 12], []])
def test_the_most_documents_of_a_row_are_counted(tmp_path: Path, starts: list[int]) -> None:
    """As many as the numbers in `segments` say, counting one that began in an earlier row."""
    writer = TokenWriter(tmp_path / "store", length=4, vocab_size=100, vocabulary="v")
    writer.append(ROWS[:3])
    writer.end_shard("wiki", np.array(starts, dtype=np.int64))
    store = writer.finish()
    assert store.most_documents() == store.segments(np.arange(3)).max() + 1


def test_rows_outside_the_store_are_refused(tmp_path: Path) -> None:
    """Negative ones too: they would wrap around silently."""
    store = write(tmp_path / "train.tok")
    for row in (-1, 7):
        with pytest.raises(IndexError):
            store.rows(np.array([row]))


def test_scores_are_stored_beside_the_tokens(tmp_path: Path) -> None:
    """One number a row, in pieces of any size."""
    store = write(tmp_path / "train.tok")
    assert not store.has_scores("unigram")
    with pytest.raises(DataError, match="unigram"):
        store.scores("unigram")
    store.write_scores("unigram", [np.arange(5, dtype=np.float32), np.array([9, 8], dtype=np.float32)])
    assert TokenStore.open(store.folder).scores("unigram").tolist() == [0, 1, 2, 3, 4, 9, 8]
    with pytest.raises(ValueError, match="one score a row"):
        store.write_scores("short", [np.zeros(3, dtype=np.float32)])
    assert not store.has_scores("short")


@pytest.mark.parametrize("name", ["00000.bin", "00001.docs.bin", "scores/unigram.bin", "index.json"])
def test_a_flipped_bit_in_any_file_is_found(tmp_path: Path, name: str) -> None:
    """`verify` names the file."""
    store = write(tmp_path / "train.tok")
    store.write_scores("unigram", [np.zeros(7, dtype=np.float32)])
    store.verify()
    path = store.folder / name
    raw = bytearray(path.read_bytes())
    raw[-2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match=path.name):
        store.verify()


def test_a_missing_shard_is_found_on_opening(tmp_path: Path) -> None:
    """Training does not begin with part of the data."""
    store = write(tmp_path / "train.tok")
    (store.folder / "00001.bin").unlink()
    with pytest.raises(DataError, match=r"00001\.bin"):
        TokenStore.open(store.folder)


def test_swapped_shards_are_found_on_opening(tmp_path: Path) -> None:
    """Two whole shards of one shape under each other's name."""
    store = write(tmp_path / "train.tok")
    a, b = store.folder / "00001.bin", store.folder / "00002.bin"
    one, other = a.read_bytes(), b.read_bytes()
    a.write_bytes(other)
    b.write_bytes(one)
    with pytest.raises(DataError, match="does not belong"):
        TokenStore.open(store.folder)


def test_the_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    """A process that dies while writing leaves nothing under the name."""
    writer = TokenWriter(tmp_path / "train.tok", length=4, vocab_size=100, vocabulary="v")
    writer.append(ROWS)
    writer.end_shard("wiki", np.array([0]))
    assert not (tmp_path / "train.tok").exists()
    writer.finish()
    assert (tmp_path / "train.tok" / "index.json").exists()


def test_a_writer_that_is_left_early_leaves_nothing(tmp_path: Path) -> None:
    """Neither the folder nor its temporary one."""
    with pytest.raises(RuntimeError), TokenWriter(tmp_path / "a", length=4, vocab_size=9, vocabulary="v") as writer:
        writer.append(ROWS)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_the_same_tokens_give_the_same_bytes(tmp_path: Path) -> None:
    """Every file, so that two engines can be compared by checksum."""
    one, other = write(tmp_path / "a.tok").folder, write(tmp_path / "b.tok").folder
    for path in one.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes()
