"""Which runs' held-out losses compare with each other: the same tokens, cut alike, and asked of the model itself.

Word bits per byte ask for words of the raw text instead, and compare across tokenizers that share a normaliser.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuday.core.errors import DataError
from gpuday.core.rundir import RunDir, read_json
from gpuday.report.load import RunRecord


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a run was asked on its held-out text."""

    tokenizer: str
    """The vocabulary's fingerprint."""
    tokens: str
    """The checksums of the rows of tokens."""
    length: int
    """Of a row, in tokens."""
    words: tuple[str, str]
    """The fingerprint of the raw words, and the normaliser."""


def question(record: RunRecord) -> Question | None:
    """By the indexes of the run's data; None where they are gone, or cannot be read."""
    data = RunDir(record.root).data
    tokens, words = (_table(data / name / "index.json") for name in ("heldout.tok", "heldout.words"))
    try:
        return Question(
            tokenizer=str(tokens["vocabulary"]),
            tokens=" ".join(str(shard["xxh3"]) for shard in tokens["shards"]),
            length=int(tokens["length"]),
            words=(str(words["text_fingerprint"]), str(words["normalizer"])),
        )
    except (KeyError, TypeError, ValueError):
        return None


def caveat(record: RunRecord) -> str:
    """Why a run's held-out loss is not that of a model which was asked for masked tokens, in the words of its objective;
    empty where it is."""
    notes = record.section("heldout").get("notes")
    return "; ".join(str(note).partition(":")[0] for note in notes) if isinstance(notes, list) else ""


def apart(records: Sequence[RunRecord]) -> dict[str, str]:
    """Why a run's held-out loss does not compare with those of most others, by the name of each run that this is so of.

    The others are the largest group that was asked the same; of two as large the one that the first run belongs to.
    """
    asked = {record.name: question(record) for record in records if _has_loss(record)}
    sound = [asked[r.name] for r in records if r.name in asked and not caveat(r)]
    groups = Counter((q.tokenizer, q.tokens) for q in sound if q is not None)
    usual = groups.most_common(1)[0][0] if groups else None
    with_it = next((n for n, q in asked.items() if q is not None and (q.tokenizer, q.tokens) == usual), "")
    found = {}
    for record in records:
        if record.name in asked:
            reasons = (caveat(record), _difference(asked[record.name], asked.get(with_it), with_it))
            if told := "; ".join(filter(None, reasons)):
                found[record.name] = told
    return found


def _difference(one: Question | None, usual: Question | None, name: str) -> str:
    if usual is None:
        return ""
    if one is None:
        return "its data is gone, and with it what it was asked"
    if (one.tokenizer, one.tokens) == (usual.tokenizer, usual.tokens):
        return ""
    what = "other held-out text than"
    if one.tokenizer != usual.tokenizer:
        what = "another tokenizer than"
    elif one.length != usual.length:
        what = f"rows of {one.length} tokens, not of {usual.length} as"
    words = "word bits compare" if one.words == usual.words else "word bits do not compare either"
    return f"{what} {name}; {words}"


def _has_loss(record: RunRecord) -> bool:
    return bool(record.validations) or record.section("heldout").get("nats_per_token") is not None


def _table(path: Path) -> dict[str, Any]:
    """A JSON table; empty where it is gone, damaged or something else. Whoever trains is told of damage, not who lists."""
    try:
        found = read_json(path)
    except DataError:
        return {}
    return found if isinstance(found, dict) else {}
