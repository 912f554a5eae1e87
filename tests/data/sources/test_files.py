import gzip
import json
import lzma
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from gpuday.core.errors import DataError
from gpuday.data.document import Document, DropCounter
from gpuday.data.sources.files import Files

TEXTS = ["first document\nwith two lines", "second, “quoted”", "third"]
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}
ENCODE: dict[str, Callable[[list[str]], str]] = {
    "txt": "\n\n".join,
    "jsonl": lambda texts: "".join(json.dumps({"text": t}) + "\n" for t in texts),
    "csv": lambda texts: "id,text\n" + "".join(f'{i},"{t}"\n' for i, t in enumerate(texts)),
    "tsv": lambda texts: "text\tid\n" + "".join(f'"{t}"\t{i}\n' for i, t in enumerate(texts)),
}


def read(path: Path | str, drops: DropCounter | None = None, **knobs: str) -> list[Document]:
    return list(Files(path=str(path), **knobs).documents(drops or DropCounter()))  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", list(COMPRESS))
@pytest.mark.parametrize("kind", list(ENCODE))
def test_every_format_and_compression_gives_the_documents_back(tmp_path: Path, kind: str, suffix: str) -> None:
    """The same texts come out of each of the sixteen."""
    path = tmp_path / f"a.{kind}{suffix}"
    path.write_bytes(COMPRESS[suffix](ENCODE[kind](TEXTS).encode()))
    documents = read(path)
    assert [d.text for d in documents] == TEXTS
    assert len({d.id for d in documents}) == 3
    assert {d.source for d in documents} == {"a"}


def test_parquet_gives_the_documents_back(tmp_path: Path) -> None:
    """Read by another process, with the same result."""
    pq.write_table(pa.table({"text": [*TEXTS, None]}), tmp_path / "a.parquet")
    drops = DropCounter()
    assert [d.text for d in read(tmp_path / "a.parquet", drops)] == TEXTS
    assert list(drops) == [("read", "empty document", 1)]


def test_a_folder_is_read_in_sorted_order(tmp_path: Path) -> None:
    """Below it too; files of unknown kind are counted; a file is a source of its own where there are few."""
    for name in ("b.txt", "a.jsonl", "c/z.txt", "c/readme.md", "image.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"text": name}))
    drops = DropCounter()
    documents = read(tmp_path, drops)
    assert [d.source for d in documents] == ["a", "b", "z"]
    assert drops.count("read", "file of unknown kind") == 2
    assert [d.id for d in read(tmp_path)] == [d.id for d in documents]


def test_many_files_are_one_source(tmp_path: Path) -> None:
    """A report by source stays readable with 33 files."""
    for i in range(33):
        (tmp_path / f"{i}.txt").write_text("text")
    assert {d.source for d in read(tmp_path)} == {tmp_path.name}


def test_a_glob_takes_what_it_matches(tmp_path: Path) -> None:
    """Sorted, and nothing else."""
    for name in ("a1.txt", "a2.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    assert [d.text for d in read(tmp_path / "a*.txt")] == ["a1.txt", "a2.txt"]


def test_pieces_of_a_long_document_stay_in_one_group(tmp_path: Path) -> None:
    """A document of 9 MB comes in pieces with ids of their own, which are held out together or not at all."""
    (tmp_path / "a.txt").write_text(("word " * 200 + "\n") * 9000)
    documents = read(tmp_path / "a.txt", separator="file")
    assert len(documents) == len({d.id for d in documents}) == 3
    assert len({d.group for d in documents}) == 1


def test_memory_does_not_follow_the_size_of_the_file(tmp_path: Path) -> None:
    """Reading 40 MB of text, 1 kB a document, needs less than 8 MB."""
    path = tmp_path / "a.txt.zst"
    path.write_bytes(COMPRESS[".zst"](b"".join(b"%d " % i * 150 + b"\n\n" for i in range(40_000))))
    source, drops = Files(path=str(path)), DropCounter()
    tracemalloc.start()
    characters = sum(len(d.text) for d in source.documents(drops))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert characters > 30_000_000
    assert peak < 8 << 20


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    """A folder that contains itself is read once."""
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "self").symlink_to(tmp_path, target_is_directory=True)
    assert [d.text for d in read(tmp_path)] == ["text"]


def test_what_cannot_be_a_corpus_is_one_clear_error(tmp_path: Path) -> None:
    """Missing, empty, of unknown kind, a pipe, a link to itself, a pipe inside a folder."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "a.png").write_bytes(b"x")
    (tmp_path / "a.doc").write_bytes(b"x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "piped").mkdir()
    os.mkfifo(tmp_path / "piped" / "a.txt")
    for name in ("missing", "empty", "only", "a.doc", "loop", "piped", "piped/a.txt", "no*.txt"):
        with pytest.raises(DataError, match=str(tmp_path)) as fault:
            read(str(tmp_path / name))
        assert fault.value.fix


def test_a_file_of_bad_lines_is_an_error_that_names_it(tmp_path: Path) -> None:
    """UTF-16 under the name of a txt file."""
    (tmp_path / "a.txt").write_bytes("some text\nand more".encode("utf-16"))
    with pytest.raises(DataError, match=r"a\.txt: .* lines cannot be used"):
        read(tmp_path / "a.txt")


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    """A small file that is touched is the same; one changed byte, another name or another separator is not."""
    path = tmp_path / "a.txt"
    path.write_text("text")
    before = Files(path=str(path)).fingerprint()
    os.utime(path, (1, 1))
    assert Files(path=str(path)).fingerprint() == before
    assert Files(path=str(path), separator="line").fingerprint() != before
    path.write_text("tex!")
    assert Files(path=str(path)).fingerprint() != before


def test_the_fingerprint_of_a_large_file_reads_its_ends_only(tmp_path: Path) -> None:
    """A changed end or time is noticed; the middle is covered by the modification time."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * (3 << 20))
    before = Files(path=str(path)).fingerprint()
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"y")
    os.utime(path, ns=times)
    assert Files(path=str(path)).fingerprint() != before
    assert "mtime_ns" in before["files"][0]
