"""Preparing data: MB of text a second against bare `tokenizers`, seconds to train a tokenizer, peak memory by size.

Ours reads a text file, splits held-out text off, normalises, encodes, packs, and writes the checksummed store, to the
last fsync. The other side calls `encode_batch_fast` on the same documents, which lie in memory, with the same
tokenizer, all at once, and takes the ids. Both tokenizers exist before: training them is measured apart, on both sides.
Memory is the peak of a process of its own, tokenizer training included; the text is repeated, each document numbered.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any, Literal

from measure import Record, alternate, parser
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from gpuday.data.corpus import parse_source
from gpuday.data.document import DropCounter
from gpuday.data.normalize import build_normalizer
from gpuday.data.prepare import DataConfig, prepare
from gpuday.data.tokenizer import SPECIALS, train_tokenizer

MB = 1_000_000
QUICK_MB, FULL_MB = 10, 25
STATUS = Path("/proc/self/status")
NORMALIZERS: dict[str, Literal["light", "crammed"]] = {"bpe": "light", "wordpiece": "crammed"}


def main() -> None:
    """Speed for each kind of tokenizer, then memory at each size."""
    asked = parser(__doc__, kinds="bpe,wordpiece", sizes="10,1000")
    asked.add_argument("--text", default="pydocs", help="file, folder or glob of text, or pydocs [pydocs]")
    asked.add_argument("--vocab", type=int, default=8192, help="vocabulary size [8192]")
    asked.add_argument("--memory", nargs=2, metavar=("FILE", "VOCAB"), help="prepare one file in this process")
    arguments = asked.parse_args()
    if arguments.memory:
        print(json.dumps(peak_of_preparing(Path(arguments.memory[0]), int(arguments.memory[1]))))
        return
    record = Record("preparation", arguments.out)
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.kinds:
            text = Path(scratch, "speed.txt")
            enlarge(arguments.text, text, (QUICK_MB if arguments.quick else FULL_MB) * MB, repeat=False)
            documents = [document.text for document in parse_source(str(text)).documents(DropCounter())]
            shape = {"bytes": text.stat().st_size, "documents": len(documents), "vocabulary": arguments.vocab}
        for kind in arguments.kinds:
            figures = speed(kind, text, documents, arguments.vocab, rounds=3 if arguments.quick else 5)
            record.add(f"speed {kind}", shape={**shape, "tokenizer": kind}, figures=figures)
        for size in arguments.sizes[: 1 if arguments.quick else None]:
            text = Path(scratch, "memory.txt")
            enlarge(arguments.text, text, int(size) * MB, repeat=True)
            shape = {"bytes": text.stat().st_size, "vocabulary": arguments.vocab, "tokenizer": "bpe"}
            record.add(f"memory {size} MB", shape=shape, figures=in_a_process(text, arguments.vocab))
    record.table()


def enlarge(source: str, path: Path, size: int, *, repeat: bool) -> None:
    """Write documents to a text file until it has `size` bytes; from the second round on with the round's number."""
    with open(path, "w", encoding="utf-8") as file:
        for turn in count() if repeat else range(1):
            for document in parse_source(source).documents(DropCounter()):
                if file.tell() >= size:
                    return
                file.write((f"{turn} " if turn else "") + document.text + "\n\n")


def speed(kind: str, text: Path, documents: Sequence[str], vocab: int, *, rounds: int) -> dict[str, object]:
    """MB/s of both sides, and seconds of training the tokenizer on both sides."""
    megabytes = text.stat().st_size / MB
    normalizer = NORMALIZERS[kind]

    def ours_trained() -> Any:
        return train_tokenizer(iter(documents), kind=kind, normalizer=normalizer, vocab=vocab)[0]  # type: ignore[arg-type]

    training = alternate(
        {"ours": ours_trained, "bare": lambda: bare_training(kind, documents, vocab)},
        rounds=1,
        warm_up=0,
    )
    tokenizer = ours_trained()
    with tempfile.TemporaryDirectory(dir=text.parent) as folder:
        tokenizer.save(Path(folder, "tokenizer.json"))
        config = DataConfig(corpus=(str(text),), tokenizer=str(Path(folder, "tokenizer.json")), normalizer=normalizer)
        folders = (Path(folder, str(i)) for i in count())
        times = alternate(
            {
                "ours": lambda: prepare(config, next(folders)),
                "bare": lambda: [
                    e.ids for e in tokenizer.tokenizer.encode_batch_fast(documents, add_special_tokens=False)
                ],
            },
            rounds=rounds,
        )
    rates = {name: seconds.rate(megabytes) for name, seconds in times.items()}
    return {
        "ours_mb_per_second": rates["ours"],
        "bare_mb_per_second": rates["bare"],
        "ratio": rates["ours"].median / rates["bare"].median,
        "ours_training_seconds": training["ours"],
        "bare_training_seconds": training["bare"],
    }


def bare_training(kind: str, documents: Sequence[str], vocab: int) -> Tokenizer:
    """The same training written with `tokenizers` alone."""
    tokenizer = Tokenizer(models.BPE() if kind == "bpe" else models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = build_normalizer(NORMALIZERS[kind])
    options: dict[str, Any] = {"vocab_size": vocab, "special_tokens": list(SPECIALS), "show_progress": False}
    trainer: Any
    if kind == "bpe":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        trainer = trainers.BpeTrainer(
            **options, min_frequency=2, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordPieceTrainer(**options, min_frequency=2)
    tokenizer.train_from_iterator(batches(documents), trainer)
    return tokenizer


def batches(documents: Sequence[str]) -> Iterator[list[str]]:
    """Many documents at a time."""
    rest = iter(documents)
    while batch := list(islice(rest, 1000)):
        yield batch


def in_a_process(text: Path, vocab: int) -> dict[str, float]:
    """`peak_of_preparing` in a fresh process."""
    command = [sys.executable, os.fspath(Path(__file__)), "--memory", os.fspath(text), str(vocab)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def peak_of_preparing(text: Path, vocab: int) -> dict[str, float]:
    """Peak of resident memory in MB: after training the tokenizer, and of the encoding with a tokenizer that is there."""
    with tempfile.TemporaryDirectory(dir=text.parent) as folder:
        imported, start = peak_mb(), time.perf_counter()
        config = DataConfig(corpus=(str(text),), vocab=vocab)
        trained = prepare(config, Path(folder, "a"))
        seconds, whole = time.perf_counter() - start, peak_mb()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again at what is held now
        held = peak_mb()
        prepare(replace(config, tokenizer=str(trained.folder / "tokenizer.json")), Path(folder, "b"))
        return {
            "imports_mb": imported,
            "peak_mb": whole,
            "held_after_mb": held,
            "peak_of_encoding_mb": peak_mb(),
            "seconds": seconds,
            "mb_per_second": text.stat().st_size / MB / seconds,
        }


def peak_mb() -> float:
    """This process's largest resident memory so far."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / MB


if __name__ == "__main__":
    main()
