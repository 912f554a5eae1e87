"""Damage to files that were written well: bits that flip, pages that become zeros, files cut, grown, emptied, swapped, gone.

`rot_checkpoints` and `rot_prepared` do so many of them, drawn from a seed, and look at what is noticed.
"""

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from gpuday.core.sealed import DamagedFile
from gpuday.data.orders.unigram import Unigram
from gpuday.data.prepare import DataConfig, prepare
from gpuday.data.prepared import PreparedData
from gpuday.train import checkpoint

PAGE = 4096
FILES = ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json")
FOX = "\n\n".join(f"Fox number {i} ate {i * 7} plums on day {i}, again and again." for i in range(300))

Damage = Callable[[Path, Path, random.Random], None]  # to a file; another one lies at the second path


def flip(path: Path, other: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def zero_page(path: Path, other: Path, draw: random.Random) -> None:
    """A page, or what of it belongs to the file, that was not zeros before."""
    data = path.read_bytes()
    starts = [at for at in range(0, len(data), PAGE) if any(data[at : at + PAGE])]
    at = draw.choice(starts)
    path.write_bytes(data[:at] + bytes(len(data[at : at + PAGE])) + data[at + PAGE :])


def cut(path: Path, other: Path, draw: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: draw.randrange(1, len(data))])


def grow(path: Path, other: Path, draw: random.Random) -> None:
    path.write_bytes(path.read_bytes() + draw.choice([b"\x00", b" ", b"\n", draw.randbytes(100), bytes(PAGE)]))


def empty(path: Path, other: Path, draw: random.Random) -> None:
    path.write_bytes(b"")


def lose(path: Path, other: Path, draw: random.Random) -> None:
    path.unlink()


def take_other(path: Path, other: Path, draw: random.Random) -> None:
    """The content of another file, whole in itself: of another checkpoint, shard or preparation."""
    path.write_bytes(other.read_bytes())


DAMAGES: dict[str, Damage] = {
    "bit": flip,
    "page": zero_page,
    "cut": cut,
    "grown": grow,
    "empty": empty,
    "missing": lose,
    "swapped": take_other,
}


def rot_checkpoints(place: Path, *, seed: int, count: int) -> Counter[str]:
    """Damages to the newer of two checkpoints, or to the pointer, that were noticed, by file and kind.

    Noticed: set aside with its reason, said once, and the one before is loaded with its clock; a pointer is said to be
    damaged, and the newest is loaded. Without a pointer, or with one of another save, there is nothing to notice.
    """
    draw, noticed = random.Random(seed), Counter[str]()
    for step in (1, 2):
        _save(place / "whole", step)
    for number in range(count):
        name = (*FILES, "LATEST")[number % 5]
        pointer = name == "LATEST"
        kinds = [k for k in DAMAGES if not (pointer and k in ("missing", "swapped"))]
        kind, root = kinds[number // 5 % len(kinds)], place / "rotten"
        shutil.copytree(place / "whole", root)
        path = root / name if pointer else root / "step-00000002" / name
        _damage(path, _other(root, name, draw), kind, draw)
        warnings: list[str] = []
        saved = checkpoint.load_newest(root, warn=warnings.append)
        step = 2 if pointer else 1
        whole = (
            saved is not None
            and saved.state["clock"]["ledger"] == {"step": 10.0 * step}
            and int(saved.model["a"][0, 0]) == step
        )
        aside = [p.name for p in root.glob("*.bad-*")]
        told = len(warnings) == 1 and ("LATEST is damaged" in warnings[0] if pointer else aside[0] in warnings[0])
        if whole and told and len(aside) == (not pointer):
            noticed[f"{name} {kind}"] += 1
        shutil.rmtree(root)
    return noticed


def _save(root: Path, step: int) -> None:
    tensors = {"a": torch.full((40, 60), float(step)), "b": torch.arange(90.0)}
    moments = {"m": torch.zeros(3000), "steps": torch.tensor(float(step))}
    state = {"progress": {"step": step}, "clock": {"ledger": {"step": 10.0 * step}}}
    checkpoint.save(root, step, model=tensors, optimizer=moments, state=state)


def _other(root: Path, name: str, draw: random.Random) -> Path:
    """The same file of the other checkpoint, or another file of the same one."""
    if name == "LATEST" or draw.random() < 0.5:
        return root / "step-00000001" / (name if name != "LATEST" else "state.json")
    return root / "step-00000002" / draw.choice([n for n in FILES if n != name])


def rot_prepared(place: Path, *, seed: int, count: int) -> Counter[str]:
    """Damages to the files of a prepared folder, tokenizer to scores, that were noticed, by file and kind.

    Noticed: opening and reading it raises DamagedFile, with the path of a file of the folder. Missing scores are none:
    they are computed when an order asks for them.
    """
    draw, noticed = random.Random(seed), Counter[str]()
    folder = prepared(place / "cache", seed=0)
    another = prepared(place / "another", seed=1)
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    for number in range(count):
        name = names[number % len(names)]
        kinds = [k for k in DAMAGES if not (k == "missing" and "scores" in name)]
        kind, path = kinds[number // len(names) % len(kinds)], folder / name
        before = path.read_bytes()
        _damage(path, draw.choice(_alike(folder, another, path)), kind, draw)
        try:
            PreparedData.open(folder).verify()
        except DamagedFile as damage:
            noticed[f"{name} {kind}"] += damage.path.is_relative_to(folder)
        path.write_bytes(before)
    PreparedData.open(folder).verify()
    return noticed


def prepared(cache: Path, *, seed: int) -> Path:
    """A prepared folder with two training shards, since there are two sources, and scores."""
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "fox.txt").write_text(FOX)
    corpus = ("synthetic:30000", str(cache / "fox.txt"))
    config = DataConfig(corpus=corpus, vocab=512, length=32, order=Unigram(), tokenizer_characters=9000, seed=seed)
    return prepare(config, cache).folder


def _alike(folder: Path, another: Path, path: Path) -> list[Path]:
    """Files of other content in whose place this one could be: beside it, and in the other preparation."""
    files = [*path.parent.iterdir(), another / path.relative_to(folder)]
    return [p for p in files if p.is_file() and p.read_bytes() != path.read_bytes()]


def _damage(path: Path, other: Path, kind: str, draw: random.Random) -> None:
    before = path.read_bytes()
    DAMAGES[kind](path, other, draw)
    assert not path.exists() or path.read_bytes() != before, f"{kind} did nothing to {path}"
