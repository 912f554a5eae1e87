"""The body of the page: held-out text, samples, export, compliance, attempts. Plain values for the template."""

import re
import shlex
from dataclasses import dataclass
from typing import Any

from gpuday.core.environment import redact
from gpuday.report import formats
from gpuday.report.formats import percent
from gpuday.report.load import RunRecord

SHOWN = 12  # samples on the page; summary.json holds them all
_MASK = re.compile(r"(<mask>|\[MASK\])")


@dataclass(frozen=True, kw_only=True)
class Guess:
    """One prediction for a mask. `width` is its probability in percent."""

    token: str
    probability: str
    width: float
    right: bool


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A text cut at its masks (`pieces` alternate text, mask, text, ...), the hidden word, and what was predicted."""

    pieces: tuple[str, ...]
    truth: str
    guesses: tuple[Guess, ...]


def heldout(record: RunRecord) -> list[tuple[str, str]]:
    """(name, value) of what the pass over all of the held-out text found."""
    found = record.section("heldout")
    known = {
        "Nats per masked token": formats.decimals(found.get("nats_per_token"), 4),
        "Word bits per byte": formats.decimals(found.get("word_bits_per_byte"), 4),
        "Normaliser": formats.text(found.get("normalizer")),
        "Rows": formats.count(found.get("rows")),
    }
    return [(name, value) for name, value in known.items() if value != formats.MISSING]


def sources(record: RunRecord) -> list[tuple[str, str, str, float]]:
    """Held-out text by source: (name, nats, word bits per byte, width of its bar in percent)."""
    found = record.section("heldout")
    nats, bits = found.get("by_source"), found.get("word_bits_per_byte_by_source")
    if not isinstance(nats, dict):
        return []
    bits = bits if isinstance(bits, dict) else {}
    rows = []
    for name, value in nats.items():
        table = value if isinstance(value, dict) else {"nats_per_token": value}
        word = table.get("word_bits_per_byte", bits.get(name))
        rows.append((str(name), table.get("nats_per_token"), word))
    largest = max((formats.number_or(n, 0.0) for _, n, _ in rows), default=0.0) or 1.0
    return [
        (formats.text(name), formats.decimals(n), formats.decimals(w), percent(formats.number_or(n, 0.0) / largest))
        for name, n, w in rows
    ]


def samples(record: RunRecord) -> list[Sample]:
    """The first fill-mask examples."""
    return [_sample(s) for s in record.samples[:SHOWN]]


def export(record: RunRecord) -> tuple[str, list[tuple[str, str]]]:
    """(a sentence, the facts) about the exported model, the reason where there is none."""
    found = record.section("export")
    kind, reason, parity = found.get("kind"), found.get("reason"), found.get("parity_max_abs")
    told = ("kind", "reason", "parity_max_abs")
    rest = [(formats.clean(str(k)), formats.text(v)) for k, v in found.items() if k not in told and v]
    if kind and formats.is_number(parity):
        what = "hidden states" if reason else "logits"  # a reason why the folder holds the encoder alone
        sentence = (
            f"Exported as {formats.text(kind)}; its {what} differ from the trained model's by at most {parity:.3g}."
        )
    elif kind:
        sentence = f"Exported as {formats.text(kind)}. Parity with the trained model was not measured."
    elif reason:
        return f"Not exported: {formats.text(reason)}", rest
    else:
        return "Not exported yet.", []
    return f"{sentence} {formats.text(reason)}" if reason else sentence, rest


def compliance(record: RunRecord) -> list[tuple[str, str]]:
    """(rule, evidence) for every rule of the game that the run has evidence on."""
    return [(formats.clean(str(rule)), formats.text(e)) for rule, e in record.section("compliance").items()]


def energy(record: RunRecord) -> str:
    """What the device drew, or why that is not known."""
    joules, reason = record.summary.get("energy_joules"), record.summary.get("energy_reason")
    if joules is not None:
        return formats.energy(joules)
    return f"not measured: {formats.text(reason)}" if reason else "not measured"


def redone(record: RunRecord) -> str:
    """How many steps were lost to interruptions and made again."""
    lost = record.steps_made - record.steps_kept
    return f"{formats.count(lost)} of {formats.count(record.steps_made)} steps were lost to interruptions and redone."


def command(record: RunRecord) -> str:
    """The line that makes this run again, from the summary or the newest environment; empty where none recorded it."""
    found = record.summary.get("command") or (record.environments[-1].get("command") if record.environments else None)
    if isinstance(found, list):
        return formats.clean(" ".join(_quoted(word) for word in redact([str(word) for word in found])))
    return formats.clean(" ".join(redact(str(found).split(" ")))) if found else ""


def _quoted(word: str) -> str:
    """As a shell wants it; the sign for the home folder stands outside of the quotes, or no shell would read it."""
    if word == "~":
        return word
    return f"~/{shlex.quote(word[2:])}" if word.startswith("~/") and len(word) > 2 else shlex.quote(word)


def _sample(sample: dict[str, Any]) -> Sample:
    truth = sample.get("truth")
    guesses = sample.get("predictions")
    guesses = [g for g in guesses if isinstance(g, dict)] if isinstance(guesses, list) else []
    return Sample(
        pieces=tuple(formats.clean(p) for p in _MASK.split(str(sample.get("text", "")))),
        truth=formats.text(truth),
        guesses=tuple(
            Guess(
                token=formats.text(g.get("token")),
                probability=formats.share(g.get("probability")),
                width=percent(formats.number_or(g.get("probability"), 0.0)),
                right=truth is not None and str(g.get("token")).strip() == str(truth).strip(),
            )
            for g in guesses[:5]
        ),
    )
