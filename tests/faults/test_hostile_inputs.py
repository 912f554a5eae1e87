"""What text, files and folders may do on purpose: each case ends in a named reason, quickly and in little memory."""

import gzip
import json
import lzma
import os
import re
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from gpuday import cli
from gpuday.core import config
from gpuday.core.errors import DataError, GpudayError, UsageError
from gpuday.core.rundir import RunDir
from gpuday.data import prepare as room
from gpuday.data.document import Document, DropCounter
from gpuday.data.prepare import DataConfig, PreparedData, prepare
from gpuday.data.sources.files import Files
from gpuday.data.tokenizer import TextTokenizer, train_tokenizer
from gpuday.evaluate.tasks.parsing import parse_rows
from gpuday.evaluate.tasks.task import Task
from gpuday.train.trained import load_recipe

LINES = [f"Line {i} of a small corpus, which says {i * i} and {i % 7} about nothing in particular." for i in range(300)]
GOOD = "\n\n".join(LINES)
ZEROS = 65 << 20  # one MiB more than a file may decode to at any ratio
DEEP = "[" * 100_000


def ready(tmp_path: Path, corpus: Path, **values: Any) -> PreparedData:
    settings: dict[str, Any] = {"vocab": 320, "length": 16, "corpus": (str(corpus),), **values}
    return prepare(DataConfig(**settings), tmp_path / "cache")


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def parquet(path: Path, column: Any, **options: Any) -> Path:
    pq.write_table(pa.table({"text": column}), path, **options)
    return path


def repeated(count: int, size: int) -> Any:
    """`count` times one value of `size` characters, which parquet writes once."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array(["a" * size]))


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-20])
    return path


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def bound(path: Path) -> Path:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.close()
    return path


def link(path: Path, to: str) -> Path:
    path.symlink_to(to)
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def empties(path: Path) -> Path:
    path.mkdir()
    for i in range(10_000):
        (path / f"{i}.txt").touch()
    return path


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "brackets in jsonl": (lambda p: write(p / "a.jsonl", f'{{"text": {DEEP}'), "nested too deeply"),
    "bomb in gz": (lambda p: write(p / "a.txt.gz", gzip.compress(bytes(ZEROS), 1)), "bomb"),
    "bomb in zst": (lambda p: write(p / "a.txt.zst", zstandard.compress(bytes(ZEROS), 1)), "bomb"),
    "bomb in xz": (lambda p: write(p / "a.txt.xz", lzma.compress(bytes(ZEROS), preset=0)), "bomb"),
    "bomb in parquet": (lambda p: parquet(p / "a.parquet", repeated(300, 1_000_000), compression="zstd"), "bomb"),
    "a page of gigabytes": (lambda p: parquet(p / "a.parquet", repeated(300, 30_000_000)), "more than 768 MiB of memory"),
    "gz in gz": (lambda p: write(p / "a.txt.gz", gzip.compress(gzip.compress(GOOD.encode()))), "cannot be used|single"),
    "gz in gz by name": (lambda p: write(p / "a.txt.gz.gz", b"x"), "of no known kind"),
    "empty gz": (lambda p: write(p / "a.txt.gz", b""), "holds no text"),
    "gz that is zstd": (lambda p: write(p / "a.txt.gz", zstandard.compress(GOOD.encode())), "holds zstd data"),
    "txt that is gzip": (lambda p: write(p / "a.txt", gzip.compress(GOOD.encode())), "holds gzip data"),
    "txt that is zip": (lambda p: write(p / "a.txt", b"PK\x03\x04" + bytes(100)), "holds zip data"),
    "cut gz": (lambda p: cut(write(p / "a.txt.gz", gzip.compress(GOOD.encode()))), "cut off or damaged"),
    "dictionary of a gigabyte in xz": (
        lambda p: write(p / "a.txt.xz", lzma.compress(b"a", filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 28}])),
        "emory usage limit",
    ),
    "surrogates as escapes": (lambda p: write(p / "a.jsonl", '{"text": "\\ud800"}\n' * 9), "lone surrogate: 9"),
    "surrogates as bytes": (lambda p: write(p / "a.txt", b"\xed\xa0\x80 a\n" * 9), "invalid UTF-8: 9"),
    "NUL": (lambda p: write(p / "a.txt", b"a\0b\n" * 9), "NUL character: 9"),
    "line of 100 MB in txt": (lambda p: write(p / "a.txt", b"a" * 100_000_000), "line over 16 MiB"),
    "line of 100 MB in jsonl": (lambda p: write(p / "a.jsonl", b'{"text": "' + b"a" * 100_000_000), "line over 16 MiB"),
    "line of 100 MB in csv": (lambda p: write(p / "a.csv", b"text\n" + b"a" * 100_000_000), "line over 16 MiB"),
    "UTF-16": (lambda p: write(p / "a.txt", GOOD.encode("utf-16")), "UTF-16.*"),
    "UTF-16 without BOM": (lambda p: write(p / "a.txt", GOOD.encode("utf-16-le")), "NUL character"),
    "Latin-1": (lambda p: write(p / "a.txt", "né à\n\n".encode("latin-1") * 50), "invalid UTF-8"),
    "FIFO": (lambda p: fifo(p / "a.txt"), "not a regular file"),
    "socket": (lambda p: bound(p / "a.txt"), "not a regular file"),
    "link to itself": (lambda p: link(p / "a.txt", "a.txt"), "symbolic links"),
    "link to nothing": (lambda p: link(p / "a.txt", "b.txt"), "No such file"),
    "/dev/zero": (lambda p: Path("/dev/zero"), "not a regular file"),
    "link to /dev/zero": (lambda p: link(p / "a.txt", "/dev/zero"), "not a regular file"),
    "folder named x.txt": (lambda p: folder(p / "x.txt"), "holds no text files"),
    "name of 5,000 letters": (lambda p: p / ("a" * 5000), "does not exist"),
    "name with NUL": (lambda p: p / "a\0.txt", "no corpus path"),
    "hidden file": (lambda p: write(folder(p / "f") / ".txt", GOOD).parent, "holds no text files"),
    "10,000 empty files": (lambda p: empties(p / "many"), "holds no text"),
    "empty": (lambda p: write(p / "a.txt", b""), "holds no text"),
    "white space": (lambda p: write(p / "a.txt", b" \n\t\r\n\x0c\n" * 50), "holds no text"),
    "one word": (lambda p: write(p / "a.txt", b"word"), "single document"),
    "one character again and again": (lambda p: write(p / "a.txt", b"a\n\n" * 500), "less than one row|too small|share"),
    "less than a row": (lambda p: write(p / "a.txt", b"ab ab ab\n\ncd cd cd"), "too small|less than one row"),
    "single giant document": (lambda p: write(p / "a.txt", "\n".join(LINES)), "single document"),
    "csv of 100,000 columns": (lambda p: write(p / "a.csv", ",".join("a" * 100_000) + "\n" + ",".join("b" * 100_000)), "and 99,992 more"),
    "csv with an open quote": (lambda p: write(p / "a.csv", "text\n" + '"a ""b\n' * 50), "invalid CSV"),
    "not JSON numbers": (lambda p: write(p / "a.jsonl", '{"text": NaN}\n' * 5), "not a string"),
    "integers of 5,000 digits": (lambda p: write(p / "a.jsonl", '{"text": 1%s}\n' % ("0" * 5000)), "invalid JSON"),
    "nested column": (lambda p: parquet(p / "a.parquet", [{"text": "a"}]), "no string column"),
    "binary column": (lambda p: parquet(p / "a.parquet", [b"a"]), "no string column"),
    "cut parquet": (lambda p: cut(parquet(p / "a.parquet", ["a"])), "cannot be read as parquet"),
    "encrypted parquet": (lambda p: write(p / "a.parquet", b"PARE" + bytes(40) + b"PARE"), "cannot be read as parquet"),
    "parquet of no rows": (lambda p: parquet(p / "a.parquet", pa.array([], pa.string())), "holds no text"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_a_reason(tmp_path: Path, case: str) -> None:
    """One DataError that says what is wrong, and leaves nothing in the cache."""
    make, reason = REFUSED[case]
    corpus = make(tmp_path)
    with pytest.raises(DataError, match=reason) as caught:
        ready(tmp_path, corpus)
    assert len(str(caught.value)) < 7000
    assert not [p for p in (tmp_path / "cache").glob("*") if p.is_dir()]


WHOLE: dict[str, Callable[[Path], Path]] = {
    "concatenated gz": lambda p: write(p / "a.txt.gz", gzip.compress(GOOD.encode()) + gzip.compress(b"\n\n" + GOOD.encode())),
    "byte-order mark": lambda p: write(p / "a.txt", b"\xef\xbb\xbf" + GOOD.encode()),
    "mixed line ends": lambda p: write(p / "a.txt", GOOD.replace("\n\n", "\r\n\n", 100)),
    "CR only": lambda p: write(p / "a.txt", GOOD.replace("\n", "\r")),
    "form feeds": lambda p: write(p / "a.txt", GOOD.replace("\n\n", "\n\x0c\n")),
    "strange names": lambda p: write(folder(p / "f") / 'a\n"\x1b[31m\udcff.txt', GOOD).parent,
    "large strings": lambda p: parquet(p / "a.parquet", pa.array(LINES, pa.large_string())),
    "dictionary": lambda p: parquet(p / "a.parquet", pa.array(LINES).dictionary_encode()),
    "the same key twice": lambda p: write(p / "a.jsonl", "\n".join(f'{{"text": 1, "text": "{line}"}}' for line in LINES)),
}  # fmt: skip


@pytest.mark.parametrize("case", WHOLE)
def test_it_is_read_whole(tmp_path: Path, case: str) -> None:
    """Every line is a document."""
    made = ready(tmp_path, WHOLE[case](tmp_path))
    assert made.manifest["counts"]["documents"] in (300, 600)
    assert all("\x1b" not in label for label in made.train.sources)


ODD = {
    "special tokens": "<mask> [MASK] <pad> [CLS] <s> </s> x<sep>y <unused0> <unk>",
    "control characters": "a\x01b\x7f \x1b[31mred\x1b[0m \x9b \x1e \x1c",
    "right to left": "\u202eabc\u202c \u2066def\u2069 \u200f",
    "emoji": "👩‍👩‍👧‍👦" * 2000,
    "combining run": "a" + "\u0301" * 10_000,
    "growth under NFKD": "\ufdfa" * 5000,
    "word of 200,000 letters": "".join(chr(97 + i * i % 26) for i in range(200_000)),
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PreparedData]:
    """Good text with all odd ones between, prepared for both normalisers."""
    place = tmp_path_factory.mktemp("odd")
    corpus = write(place / "a.txt", "\n\n".join([*LINES, *[text for text in ODD.values() for _ in range(3)], *LINES]))
    kinds = {"light": {}, "crammed": {"normalizer": "crammed", "tokenizer": "wordpiece", "cls": True}}
    return {name: ready(place, corpus, **values) for name, values in kinds.items()}


@pytest.mark.parametrize("normalizer", ["light", "crammed"])
def test_odd_text_cannot_write_special_ids(odd: dict[str, PreparedData], normalizer: str) -> None:
    """What stands in the text is text: masks, padding and starts come from this program alone."""
    made = odd[normalizer]
    ids = made.train.rows(np.arange(len(made.train))).ravel()
    assert not np.isin(ids, [made.tokenizer.mask_id, made.tokenizer.pad_id]).any()
    assert (ids == made.tokenizer.sep_id).sum() <= made.train.index["documents"]


@pytest.mark.parametrize("case", ODD)
def test_odd_text_is_encoded_without_loss(odd: dict[str, PreparedData], case: str) -> None:
    """Byte-level tokens give back what the normaliser made of the text, and no special id is among them."""
    tokenizer = odd["light"].tokenizer
    (ids,) = tokenizer.encode_batch([ODD[case]])
    normal = tokenizer.tokenizer.normalizer.normalize_str(ODD[case])
    assert tokenizer.decode(ids) == normal.strip()
    assert not set(ids) & set(tokenizer.special_ids)


def test_a_foreign_tokenizer_cannot_be_made_to_write_masks(tmp_path: Path) -> None:
    """One that finds `[MASK]` in text, because it is an ordinary word of its vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "word"]
    foreign = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    foreign.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    foreign.save(str(tmp_path / "tokenizer.json"))
    loaded = TextTokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.encode_batch(["word [MASK] [CLS] word"]) == [[5, 1, 1, 5]]


@pytest.mark.parametrize("where", ["recipe", "toml", "tokenizer", "task"])
def test_a_hundred_thousand_brackets_are_one_error(tmp_path: Path, where: str) -> None:
    """In every file that is parsed whole."""
    path = write(tmp_path / "recipe.json", f"a = {DEEP}" if where == "toml" else DEEP)
    task = Task(name="x", suite="y", classes=("a", "b"))
    read: dict[str, Callable[[], Any]] = {
        "recipe": lambda: load_recipe(RunDir(tmp_path)),
        "toml": lambda: config.read_toml(path),
        "tokenizer": lambda: TextTokenizer.load(path),
        "task": lambda: parse_rows(task, tmp_path / "train.jsonl", DEEP.encode()),
    }
    with pytest.raises(GpudayError):
        read[where]()


@pytest.mark.parametrize("number", ["0x" + "f" * 5000, "1" + "0" * 200])
def test_an_integer_that_cannot_be_written_is_refused(tmp_path: Path, number: str) -> None:
    """Python reads it from hexadecimal and then refuses to print it."""
    tables = config.read_toml(write(tmp_path / "a.toml", f"vocab = {number}"))
    with pytest.raises(UsageError, match="vocab"):
        config.from_dict(DataConfig, tables)


@pytest.mark.parametrize("what", ["another size", "gone", "longer while it is read"])
def test_a_file_that_changes_between_the_passes_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The text is read three times; a mixture of two versions is never stored."""
    path = write(tmp_path / "a.txt", GOOD)
    train = room.train_tokenizer

    def change(*args: Any, **values: Any) -> Any:
        made = train(*args, **values)
        if what == "gone":
            path.unlink()
        else:
            path.write_text(GOOD[:-1] + ("" if what == "another size" else "x and more"))
        return made

    monkeypatch.setattr(room, "train_tokenizer", change)
    with pytest.raises(DataError, match=r"changed while it was read|a\.txt does not exist"):
        ready(tmp_path, path)
    assert not [p for p in (tmp_path / "cache").glob("*") if p.is_dir()]


def test_held_out_text_that_is_the_corpus_is_refused(tmp_path: Path) -> None:
    """A leak would make every number good."""
    path = write(tmp_path / "a.txt", GOOD)
    with pytest.raises(DataError, match="is the corpus itself"):
        ready(tmp_path, path, heldout=(str(path),))


def test_a_vocabulary_that_the_corpus_cannot_fill_is_refused_or_counted(tmp_path: Path) -> None:
    """Far too large is an error; somewhat too large leaves ids unused, which are counted."""
    path = write(tmp_path / "a.txt", GOOD)
    with pytest.raises(DataError, match="corpus is too small"):
        ready(tmp_path, path, vocab=32768)
    made = ready(tmp_path, path, vocab=2048)
    assert made.manifest["tokenizer"]["unused"] > 0


def test_a_folder_that_may_not_be_read_is_passed_over_with_a_word(tmp_path: Path) -> None:
    """Booked and told by name, such as the `lost+found` of a disk; as the corpus itself it is refused. As root the test
    becomes another user for a moment."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        write(root / "a.txt", GOOD).chmod(0o644)
        folder(root / "closed").chmod(0o000)
        before = os.geteuid()
        if before == 0:
            os.seteuid(65534)
        try:
            drops, told = DropCounter(), list[str]()
            assert len(list(Files(path=name).documents(drops))) == len(LINES)
            assert list(drops) == [("read", "folder that may not be read", 1)]
            settings = DataConfig(vocab=320, length=16, corpus=(name,))
            with tempfile.TemporaryDirectory() as cache:
                prepare(settings, Path(cache), progress=lambda event, **v: told.append(str(v.get("message"))))
            assert f"{name}: folders that may not be read are left out: closed" in told
            with pytest.raises(DataError, match="closed: Permission denied"):
                list(Files(path=f"{name}/closed").documents(DropCounter()))
        finally:
            os.seteuid(before)
            (root / "closed").chmod(0o755)


def test_a_long_value_comes_in_pieces_of_one_group(tmp_path: Path) -> None:
    """A document of 11 MB in one line of jsonl, cut at its spaces."""
    text = "word " * 2_200_000
    path = write(tmp_path / "a.jsonl", json.dumps({"text": text}))
    found: list[Document] = list(Files(path=str(path)).documents(DropCounter()))
    assert len(found) == 3
    assert len({d.group for d in found}) == 1
    assert " ".join(d.text for d in found) == text.strip()


def test_a_giant_word_does_not_stop_the_tokenizers_training() -> None:
    """Its time would grow with the square of the letters; a picture in base 64 has a million."""
    word = "".join(chr(97 + i * i * 7 % 26) for i in range(300_000))
    tokenizer, _ = train_tokenizer(iter([GOOD, word]), kind="bpe", normalizer="light", vocab=512)
    assert tokenizer.vocab_size == 512


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("\n\n".join(LINES[:60]), 0, ""),
        ("\n\n".join(["word"] * 4000), 3, "corpus is too small"),
        ("word", 3, "single document"),
        ("\n\n".join("abc"[i % 3] for i in range(4000)), 3, "too small|less than one row"),
    ],
    ids=["fewer rows than a batch", "one word", "one document", "three letters"],
)
def test_a_tiny_corpus_trains_or_is_refused(
    tmp_path: Path,
    tiny_toml: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    text: str,
    code: int,
    said: str,
) -> None:
    """From the command line: a batch takes rows of several epochs; what cannot train ends with exit code 3 and its reason."""
    monkeypatch.setenv("GPUDAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "tiny.toml", tiny_toml(budget="3steps", rows=512))
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "tiny.toml", "--corpus", str(write(tmp_path / "a.txt", text)), "--out", "runs/a"])
    error = capfd.readouterr().err
    assert ended.value.code == code, error
    assert re.search(said, error)
    assert "Traceback" not in error
