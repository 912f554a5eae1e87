"""Probes without fine-tuning: minimal pairs told apart, and the perplexity of a file's text."""

from typing import Any

from gpuday.cli.flags import TaskFlags
from gpuday.cli.screen import Screen
from gpuday.core.absent import why_absent
from gpuday.core.errors import DataError
from gpuday.core.rundir import RunDir, read_json
from gpuday.evaluate.minimal_pairs import pairs_section, read_pairs
from gpuday.evaluate.pseudo_likelihood import Variant, pick_predictor
from gpuday.evaluate.pseudo_perplexity import perplexity_section
from gpuday.evaluate.subject import Subject

FOLDER = "probes"  # of a run: the score of every pair
VARIANT: Variant = "within_word_l2r"  # unless another is asked for


def check_probes(flags: TaskFlags) -> None:
    """Read the pairs and look for the text, so that a fault is reported before anything is spent."""
    if flags.pairs is not None:
        read_pairs(flags.pairs)
    if flags.perplexity is not None and not flags.perplexity.is_file():
        where = f"{flags.perplexity} is not there"
        raise DataError(where, where="--perplexity", fix=why_absent(str(flags.perplexity)))


def check_subject(subject: Subject, flags: TaskFlags) -> None:
    """Raise UsageError for probes of a subject that predicts no masked tokens."""
    if flags.pairs is not None or flags.perplexity is not None:
        pick_predictor(subject)


def probe(place: RunDir, subject: Subject, flags: TaskFlags, screen: Screen) -> None:
    """Ask what was asked for, write it to the summary, those of other pairs and files kept where they are of the same
    weights, and show it."""
    found: dict[str, Any] = {}
    if flags.pairs is not None:
        folder = place.root / FOLDER
        section = pairs_section(subject, flags.pairs, variant=flags.pll or VARIANT, folder=folder, progress=screen.tell)
        found[f"{section['name']}-{section['variant']}"] = section
        groups = section["terms"] or section["paradigms"]
        screen.table(
            f"pairs of {section['name']}, {section['variant']}", [*map(_row, groups.items()), _row(("all", section))]
        )
    if flags.perplexity is not None:
        section = perplexity_section(subject, flags.perplexity, progress=screen.tell)
        found[f"perplexity-{section['file']}"] = section
        told = ("file", "pseudo_perplexity", "nats_per_token", "word_bits_per_byte")
        screen.tell("perplexity", **{key: section[key] for key in told}, **_spread(section))
    if found:
        known = read_json(place.summary).get("probes") or {}
        same = {name: old for name, old in known.items() if old.get("model_hash") == subject.model_hash}
        place.update_summary(probes={**same, **found})


def _spread(section: dict[str, Any]) -> dict[str, Any]:
    """Between what the perplexity of such a text lies, and over what; or why that is not known."""
    if (ends := section["interval"]) is None:
        return {"no_interval": section["no_interval"]}
    what = ends["method"].rpartition(", ")[2]
    return {"low": ends["low"], "high": ends["high"], "over": f"{ends['n']:,} {what}"}


def _row(named: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    name, group = named
    ends = {"low": group["interval"]["low"], "high": group["interval"]["high"]}
    return {"pairs": name, "n": group["n"], "accuracy": group["accuracy"], **ends, "ties": group["ties"]}
