import gzip
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from gpuday.core.errors import DataError, UsageError
from gpuday.evaluate.tasks.own_table import kind_of, read_columns

WANTED = {"--text": "review", "--label": "stars"}
VALUES = [("good, really", "5"), ("bad", "1")]


def values(path: Path) -> list[tuple[str, ...]]:
    return list(zip(*(column.values for column in read_columns(path, WANTED)), strict=True))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b'id,review,stars\n1,"good, really",5\n2, bad ,1\n'),
        ("a.tsv", b"review\tstars\ngood, really\t5\nbad\t1\n"),
        ("a.jsonl", b'{"review": "good, really", "stars": 5.0}\n{"review": "bad", "stars": "1", "x": []}\n'),
    ],
)
def test_every_format_gives_the_same_text(tmp_path: Path, name: str, content: bytes) -> None:
    """Plain and packed; other columns are not looked at, numbers are text, blanks at the ends go."""
    plain, gz, zst = (tmp_path / (name + ending) for ending in ("", ".gz", ".zst"))
    plain.write_bytes(content)
    gz.write_bytes(gzip.compress(content))
    zst.write_bytes(zstandard.ZstdCompressor().compress(content))
    assert [values(path) for path in (plain, gz, zst)] == [VALUES] * 3


def test_a_parquet_file_may_hold_numbers(tmp_path: Path) -> None:
    """Read in a process of its own; a null is empty."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"review": ["good", None], "stars": pa.array([5, 1])}), path)
    assert values(path) == [("good", "5"), ("", "1")]
    with pytest.raises(UsageError, match="no column 'star'") as caught:
        read_columns(path, {"--label": "star"})
    assert "'stars'" in caught.value.fix


def test_a_column_that_is_not_there_is_asked_for_by_its_flag(tmp_path: Path) -> None:
    """With the columns that are, and the nearest of them."""
    (tmp_path / "a.csv").write_text("review,stars\nx,1\n")
    with pytest.raises(UsageError, match="it has review, stars") as caught:
        read_columns(tmp_path / "a.csv", {"--text": "reviw"})
    assert (caught.value.where, caught.value.fix) == ("--text", "did you mean 'review'?")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"review,stars\n", "has no rows"),
        ("a.csv", b"\xff\n", "not UTF-8"),
        ("a.csv.gz", b"review,stars\n", "cannot be read"),
        ("a.jsonl", b'{"review": ["x"], "stars": 1}\n', "holds a list"),
        ("a.jsonl", b'{"review": "\\ud800", "stars": 1}\n', "lone surrogate"),
        ("a.parquet", b"PAR1", "cannot be read as parquet"),
        ("a.xlsx", b"", "of no known kind"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """By a sentence, with a fix."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_columns(tmp_path / name, WANTED)
    assert caught.value.fix


def test_the_kind_is_that_below_the_compression(tmp_path: Path) -> None:
    """Whatever the case; a file that is not there is said to be so."""
    for name in ("a.CSV", "b.csv.zst"):
        (tmp_path / name).touch()
        assert kind_of(tmp_path / name) == ".csv"
    with pytest.raises(DataError, match="is not there"):
        kind_of(tmp_path / "c.csv")


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_columns_that_are_not_wanted_are_not_held(tmp_path: Path, ending: str) -> None:
    """Of a file of 4 MB whose texts are a hundredth of it, less than half is in memory at any time."""
    path, junk = tmp_path / f"a.{ending}", "x" * 2000
    with path.open("w") as file:
        file.write("review,stars,junk\n" if ending == "csv" else "")
        for i in range(2000):
            row = f'{{"review": "r{i}", "stars": 1, "junk": "{junk}"}}\n'
            file.write(f"r{i},1,{junk}\n" if ending == "csv" else row)
    values(path)  # imports
    tracemalloc.start()
    assert len(values(path)) == 2000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 2
