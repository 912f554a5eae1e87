"""What `fuzz_child.py` does with an input of each kind: make it from a valid one, and read it by the package's own door."""

import csv
import io
import json
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzzing import peak_memory
from mutations import mutated, reshaped

from gpuday.core.errors import DataError
from gpuday.data.document import Document, DropCounter
from gpuday.data.records import LineTally, read_parquet, read_values
from gpuday.data.sources.files import Files
from gpuday.data.streams import DecodedLimit

WORDS = ["one", "two", "three", "naïve", "漢字", "\u202eabc", "<mask>", "[CLS]", "😀", "e\u0301", "42", "...", "don't"]
TEXTS = [" ".join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))]


class Reader:
    """One kind: `read` makes an input from a seeded generator and returns how it ended, or raises what the reader raised."""

    others_seconds = 0.0
    others_memory = 0

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, draw: random.Random) -> str:
        raise NotImplementedError

    def close(self) -> None:
        pass


def checked(documents: list[Document]) -> str:
    """What every source promises of its documents."""
    assert all(d.text and "\0" not in d.text for d in documents)
    for d in documents:
        (d.text + d.id + d.source + d.group).encode()
    assert len({d.id for d in documents}) == len(documents)
    return "result"


def json_lines(draw: random.Random, rows: list[dict[str, Any]]) -> bytes:
    """Rows as JSON, some of them odd values or odd bytes."""
    if draw.random() < 0.5:
        rows = [reshaped(draw, row) if draw.random() < 0.3 else row for row in rows]
        return "\n".join(map(json.dumps, rows)).encode("utf-8", "surrogatepass")
    return mutated(draw, "\n".join(json.dumps(row, ensure_ascii=draw.random() < 0.5) for row in rows).encode())


class TextFile(Reader):
    """A file of text, plain or compressed. Most of its lines stay good, so that the reader goes on to its end."""

    name = "a.txt"

    def content(self, draw: random.Random) -> bytes:
        return mutated(
            draw,
            draw.choice(("\n\n", "\n", "\r\n", "\r")).join(TEXTS).encode(draw.choice(("utf-8",) * 9 + ("utf-16",))),
        )

    def read(self, draw: random.Random) -> str:
        path = self.folder / self.name
        path.write_bytes(self.content(draw))
        source = Files(path=str(path), separator=draw.choice(("blank", "line", "file")))
        source.fingerprint()
        return checked(list(source.documents(DropCounter())))


class Jsonl(TextFile):
    name = "a.jsonl"

    def content(self, draw: random.Random) -> bytes:
        good = b"".join(b'{"text": "good"}\n' for _ in range(draw.choice((0, 200))))
        return good + json_lines(draw, [{"text": text, "n": i} for i, text in enumerate(TEXTS)])


class Csv(TextFile):
    name = "a.csv"

    def content(self, draw: random.Random) -> bytes:
        out = io.StringIO()
        rows = [("id", "text"), *enumerate(TEXTS), *((i, "good, or so") for i in range(draw.choice((0, 200))))]
        csv.writer(out, lineterminator=draw.choice(("\n", "\r\n", "\r"))).writerows(rows)
        return mutated(draw, out.getvalue().encode())


class Compressed(TextFile):
    """Damage to the packed bytes, or to the text before it is packed."""

    def pack(self, raw: bytes) -> bytes:
        raise NotImplementedError

    def content(self, draw: random.Random) -> bytes:
        if draw.random() < 0.2:
            return self.pack(super().content(draw))
        raw = "\n\n".join(TEXTS * draw.choice((1, 40))).encode()
        return mutated(draw, self.pack(raw) + (self.pack(raw) if draw.random() < 0.3 else b""))


class Gz(Compressed):
    name = "a.txt.gz"

    def pack(self, raw: bytes) -> bytes:
        import gzip

        return gzip.compress(raw, mtime=0)


class Zst(Compressed):
    name = "a.txt.zst"

    def pack(self, raw: bytes) -> bytes:
        import zstandard

        return zstandard.ZstdCompressor(write_checksum=True).compress(raw)


class Xz(Compressed):
    name = "a.txt.xz"

    def pack(self, raw: bytes) -> bytes:
        import lzma

        return lzma.compress(raw, preset=0)


class Parquet(Reader):
    """The worker's own function in a process that lives on, since a process an input costs 0.3 s; every 500th has its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import pyarrow as pa
        import pyarrow.parquet as pq

        text = pa.array([*TEXTS, None, "", "x" * 2000])
        number = pa.array(range(len(text)))
        tables = [
            pa.table({"text": text, "n": number}),
            pa.table({"text": text.dictionary_encode()}),
            pa.table({"body": text.cast(pa.large_string()), "nested": pa.array([{"text": ["a"]}] * len(text))}),
            pa.table({"text": text.cast(pa.binary())}),
            pa.table({"text": text})[:0],
        ]
        self._valid = []
        for table in tables:
            for codec in ("none", "snappy", "zstd", "gzip"):
                for checked_pages in (True, False):
                    out = io.BytesIO()
                    pq.write_table(table, out, compression=codec, write_page_checksum=checked_pages, row_group_size=10)
                    self._valid.append(out.getvalue())
        self._worker = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        script = Path(__file__).with_name("fuzz_child.py")
        return subprocess.Popen([sys.executable, str(script), "parquet"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def read(self, draw: random.Random) -> str:
        path = self.folder / "a.parquet"
        path.write_bytes(mutated(draw, draw.choice(self._valid)))
        tally = LineTally(path, DropCounter())
        if draw.random() < 1 / 500:
            texts = list(read_parquet(path, tally))
        else:
            message, values = self._ask(path)
            texts = list(read_values(io.BytesIO(values), tally, DecodedLimit(path, path.stat().st_size)))
            if message:
                raise DataError(message)
        assert all("\0" not in text and text.encode() is not None for _, text in texts)
        tally.check()
        return "result"

    def _ask(self, path: Path) -> tuple[str, bytes]:
        worker = self._worker
        assert worker.stdin is not None and worker.stdout is not None
        worker.stdin.write(f"{path}\n".encode())
        worker.stdin.flush()
        head = worker.stdout.read(32)
        if len(head) < 32:  # as the package tells a crash of its worker
            worker.communicate()
            self._worker = self._start()
            return f"the reader was killed: {worker.returncode}", b""
        message, values, seconds, memory = struct.unpack("<qqdq", head)
        self.others_seconds, self.others_memory = self.others_seconds + seconds, max(self.others_memory, memory)
        return worker.stdout.read(message).decode(), worker.stdout.read(values)

    def close(self) -> None:
        self._worker.communicate()


def serve_parquet() -> None:
    """Answer every path on standard input with message, values, CPU seconds and peak memory."""
    import time

    import pyarrow as pa
    import pyarrow.parquet as pq

    from gpuday.data import parquet_worker

    parquet_worker.limit_memory()
    pa.set_memory_pool(pa.system_memory_pool())
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    for line in sys.stdin:
        out, message, begin = io.BytesIO(), "", time.process_time()
        try:
            parquet_worker.copy(pa, pq, line.rstrip("\n"), out, "text", "text")
        except SystemExit as error:
            message = str(error)
            assert message, "a fault without a word"
        seconds, memory = time.process_time() - begin, peak_memory()
        said = message.encode("utf-8", "replace")
        sys.stdout.buffer.write(struct.pack("<qqdq", len(said), out.tell(), seconds, memory) + said + out.getvalue())
        sys.stdout.buffer.flush()


class Toml(Reader):
    valid = (
        b'base = "modern"\nsize = "nano"\nbudget = "10m"\nseed = 3\n[data]\ncorpus = ["a.txt"]\nvocab = 512\nlength = 32\ncls = true\n'
        b'order = "unigram"\n[model]\nwidth = 32\nmixer = { head_width = 16 }\nshape = { layers = 2 }\n[batch]\nrows = 8\nexponent = 0.5\n'
        b'ramp = { part = "ramp" }\n[optimizer]\npart = "adamw"\n[train]\nclip = 1.0\ndtype = "float32"\nvalidate_every = 0.1\n'
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._path = folder / "a.toml"
        self._path.write_bytes(self.valid)
        self._resolve()  # imports torch, which is not the first input's time

    def _resolve(self) -> Any:
        from gpuday.cli.flags import Flags
        from gpuday.cli.resolve import resolve_recipe
        from gpuday.cli.screen import Screen

        return resolve_recipe(str(self._path), Flags(), Screen(as_json=True, silent=True))

    def read(self, draw: random.Random) -> str:
        self._path.write_bytes(mutated(draw, self.valid))
        return readable(self._resolve())


def readable(recipe: Any) -> str:
    """An accepted recipe is the same after JSON."""
    from gpuday.core import config

    again = config.from_dict(type(recipe), json.loads(json.dumps(config.to_dict(recipe))))
    assert config.fingerprint(again) == config.fingerprint(recipe)
    return "result"


class RecipeFile(Reader):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from gpuday import presets
        from gpuday.core import config
        from gpuday.core.clock import Budget

        self._valid = [config.to_dict(presets.find(n)("nano", Budget.parse("10m"))) for n in presets.names()]
        import gpuday.train.trained  # noqa: F401 - imports torch, which is not the first input's time

    def read(self, draw: random.Random) -> str:
        from gpuday.core.rundir import RunDir
        from gpuday.train.trained import load_recipe

        valid = draw.choice(self._valid)
        odd = draw.random() < 0.6
        raw = json.dumps(reshaped(draw, valid)).encode() if odd else mutated(draw, json.dumps(valid).encode())
        (self.folder / "recipe.json").write_bytes(raw)
        return readable(load_recipe(RunDir(self.folder)))


class JournalFile(Reader):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from gpuday.core import journal

        values = {int: 3, float: 0.5, bool: False, str: "x"}
        self._rows: list[dict[str, Any]] = []
        for attempt in (1, 2):
            for kind, cls in journal.KINDS.items():
                fields = {f.name: values[f.type] for f in cls.__dataclass_fields__.values()}
                self._rows.append({"kind": kind, "attempt": attempt, **fields})

    def read(self, draw: random.Random) -> str:
        from gpuday.core import journal

        path = self.folder / "journal.jsonl"
        path.write_bytes(json_lines(draw, self._rows))
        rows = list(journal.read(path))
        assert len(journal.surviving(path)) <= len(rows)
        assert journal.attempts(path) >= 0
        journal.Journal(path, attempt=2).close()
        return "result"


def task_reader(folder: Path) -> Reader:
    from fuzz_folders import TaskFile

    return TaskFile(folder)


def tokenizer_reader(folder: Path) -> Reader:
    from fuzz_folders import TokenizerFile

    return TokenizerFile(folder)


def store_reader(folder: Path) -> Reader:
    from fuzz_folders import Store

    return Store(folder)


def checkpoint_reader(folder: Path) -> Reader:
    from fuzz_folders import Checkpoints

    return Checkpoints(folder)


READERS: dict[str, Callable[[Path], Reader]] = {
    "txt": TextFile, "jsonl": Jsonl, "csv": Csv, "gz": Gz, "zst": Zst, "xz": Xz, "parquet": Parquet, "toml": Toml, "recipe": RecipeFile,
    "journal": JournalFile, "task": task_reader, "tokenizer": tokenizer_reader, "store": store_reader, "checkpoint": checkpoint_reader,
}  # fmt: skip


def copy_of(template: Path, to: Path) -> Path:
    """A folder like the template, in place of what is there."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(template, to)
    return to
