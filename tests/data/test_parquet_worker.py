import struct
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpuday.core.errors import DataError
from gpuday.data import parquet_worker, records
from gpuday.data.document import DropCounter
from gpuday.data.records import LineTally, read_parquet


def read(path: Path) -> list[str]:
    return [text for _, text in read_parquet(path, LineTally(path, DropCounter()))]


def write(path: Path, **columns: list[object]) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=2, write_page_checksum=True)
    return path


def test_values_are_written_with_their_length(tmp_path: Path) -> None:
    """The bytes on standard output, by hand: a text, a null, an empty text."""
    path = write(tmp_path / "a.parquet", text=["é", None, ""])
    done = subprocess.run([sys.executable, "-P", parquet_worker.__file__, path, "text", "text"], capture_output=True)
    assert done.stdout == struct.pack("<q", 2) + "é".encode() + struct.pack("<q", -1) + struct.pack("<q", 0)


def test_all_row_groups_are_read_in_order(tmp_path: Path) -> None:
    """Five rows in three groups, with a null as an empty document."""
    assert read(write(tmp_path / "a.parquet", text=["a", "b", None, "d", "e"])) == ["a", "b", "", "d", "e"]


def test_the_only_string_column_is_taken(tmp_path: Path) -> None:
    """Where no column is called text."""
    assert read(write(tmp_path / "a.parquet", n=[1, 2], body=["a", "b"])) == ["a", "b"]


def test_two_string_columns_are_refused(tmp_path: Path) -> None:
    """The error names the file and the columns."""
    with pytest.raises(DataError, match=r"a\.parquet.*x, y"):
        read(write(tmp_path / "a.parquet", x=["a"], y=["b"]))


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """Page checksums are verified, so that a damaged page is an error and not other text."""
    path = write(tmp_path / "a.parquet", text=[f"document number {i}" for i in range(100)])
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"document number 40") + 3] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"a\.parquet"):
        read(path)


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    """One sentence that names the file."""
    (tmp_path / "a.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(DataError, match=r"a\.parquet cannot be read as parquet"):
        read(tmp_path / "a.parquet")


def test_a_crash_of_the_reader_is_an_error_and_not_our_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A native crash in the worker names the file and the signal."""
    path = write(tmp_path / "a.parquet", text=["a"])
    (tmp_path / "parquet_worker.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr(records, "__file__", str(tmp_path / "records.py"))
    with pytest.raises(DataError, match=r"a\.parquet cannot be read as parquet: the reader was killed by signal 11"):
        read(path)


def test_a_reader_that_is_left_early_ends_its_worker(tmp_path: Path) -> None:
    """Taking one document of many leaves no process behind."""
    path = write(tmp_path / "a.parquet", text=["x" * 1000] * 20_000)
    texts = read_parquet(path, LineTally(path, DropCounter()))
    assert next(texts) == (1, "x" * 1000)
    texts.close()  # type: ignore[attr-defined]


def test_memory_does_not_follow_the_size_of_a_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers put a million rows in one by default. Here 200 MiB of text in a group, and 160 MiB to read it."""
    text = "".join(map(chr, range(97, 123))) * 154
    values = pa.array([f"{i} {text}" for i in range(54_000)])
    pq.write_table(pa.table({"text": values}), tmp_path / "a.parquet", compression="none", use_dictionary=False)
    file = pq.ParquetFile(tmp_path / "a.parquet")
    assert file.num_row_groups == 1 and file.metadata.row_group(0).total_byte_size > 200 << 20
    source = Path(parquet_worker.__file__).read_text()
    assert source.count("768 << 20") == 1
    (tmp_path / "parquet_worker.py").write_text(source.replace("768 << 20", "160 << 20"))
    monkeypatch.setattr(records, "__file__", str(tmp_path / "records.py"))
    assert sum(map(len, read(tmp_path / "a.parquet"))) == sum(map(len, values.to_pylist()))


def test_a_column_of_categories_does_not_hide_the_text(tmp_path: Path) -> None:
    """The only plain string column is taken; of dictionaries the one called text, or the only one."""
    categories = pa.array(["en", "de"]).dictionary_encode()
    assert read(write(tmp_path / "a.parquet", content=["a", "b"], lang=categories)) == ["a", "b"]
    assert read(write(tmp_path / "b.parquet", content=["a", "b"], text=categories)) == ["en", "de"]
    assert read(write(tmp_path / "c.parquet", lang=categories, n=[1, 2])) == ["en", "de"]
    with pytest.raises(DataError, match="lang, site"):
        read(write(tmp_path / "d.parquet", lang=categories, site=categories))
