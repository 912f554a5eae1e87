"""Minimal pairs: of two sentences that differ in one point of grammar, does the model give the good one more probability?

BLiMP (Warstadt et al., arXiv 1912.00582): 67 paradigms (UIDs) of 1,000 pairs, in 12 phenomena and 4 fields. As there, a
pair counts where the good sentence's log-probability is greater, so that a tie is wrong, and a mean is over paradigms.
Log-probabilities are pseudo-log-likelihoods, summed and not divided by length, as in Salazar et al., arXiv 1910.14659.
"""

import json
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from gpuday.core.absent import why_absent
from gpuday.core.errors import DataError
from gpuday.core.rundir import read_json, write_atomic, write_json
from gpuday.data.streams import COMPRESSIONS, open_decoded
from gpuday.evaluate.finetune import Tell
from gpuday.evaluate.intervals import CONFIDENCE, Interval
from gpuday.evaluate.pseudo_likelihood import Variant, log_likelihoods, pick_predictor, read_sentences
from gpuday.evaluate.subject import Subject
from gpuday.train.device import describe

GOOD, BAD = "sentence_good", "sentence_bad"
SUFFIXES = (".jsonl", ".ndjson")
MOST_LINE = 1 << 20  # bytes
VERSION = 2  # of the way pairs are scored
_Z = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True)
class Pair:
    """Two sentences of one paradigm."""

    good: str
    bad: str
    uid: str
    """The paradigm: BLiMP's UID, or the file's name."""
    term: str
    """BLiMP's linguistics_term, which its paper calls a phenomenon; empty where it is not given."""
    field: str
    """BLiMP's field, such as syntax; likewise."""
    number: str
    """The pair's own number, or that of its line from 0 on."""


def read_pairs(path: Path) -> list[Pair]:
    """All pairs of a JSONL file, or of a folder of them in the order of their names; compressed ones too.

    Paradigm, term and field are taken from the line, from the folder's index.json by the file's name, or are the file's
    name and nothing. Raises DataError naming the line that has no two sentences.
    """
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if _is_lines(p))
    elif path.exists():
        files = [path]
    else:
        raise DataError(f"{path} is not there", where="--pairs", fix=why_absent(str(path)))
    index = _index(path / "index.json") if path.is_dir() else {}
    pairs = [pair for file in files for pair in _pairs_of(file, index.get(file.name, {}))]
    if not pairs:
        raise DataError(f"{path} holds no pairs", where="--pairs", fix=f"give JSON lines with {GOOD} and {BAD}")
    return pairs


def pairs_section(
    subject: Subject, path: Path, *, variant: Variant = "within_word_l2r", folder: Path, progress: Tell | None = None
) -> dict[str, Any]:
    """The shares of pairs that a subject gets right, for `summary["probes"]["pairs"][name]`.

    {"name", "variant", "accuracy": mean over paradigms, "interval", "pairs_accuracy": share of all pairs, "n", "ties",
    "paradigms", "terms", "fields": each {name: {"accuracy", "interval", "n", "ties", ...}}, "tokens", "seconds",
    "pairs_per_second", "dtype", "device", "data_hash", "model_hash", "version", "scores": the file of every pair's}.

    Both are kept in the folder as `<name>-<variant>.json` and `.jsonl`; an answer that is there for the same weights and
    pairs is not made again. Raises UsageError for a subject without a head for masked tokens.
    """
    started = time.perf_counter()
    predictor, dtype = pick_predictor(subject)
    pairs = read_pairs(path)
    name = _named(path)
    identity = {
        "name": name,
        "variant": variant,
        "version": VERSION,
        "dtype": dtype,
        "device": describe(subject.device),
        "data_hash": hash_pairs(pairs),
        "model_hash": subject.model_hash,
    }
    file = folder / f"{name}-{variant}.json"
    if (known := _known(file, identity)) is not None:
        return known
    sentences = list(dict.fromkeys(s for pair in pairs for s in (pair.good, pair.bad)))
    rows = read_sentences(subject, sentences)
    found = log_likelihoods(subject, predictor, rows, variant, progress=progress)
    of = dict(zip(sentences, found.tolist(), strict=True))
    scores = np.array([(of[pair.good], of[pair.bad]) for pair in pairs])
    seconds = time.perf_counter() - started
    section = {
        **identity,
        **accuracies(pairs, scores),
        "tokens": len(rows.text),
        "seconds": seconds,
        "pairs_per_second": len(pairs) / seconds,
        "scores": file.with_suffix(".jsonl").name,
    }
    lines = (
        {"UID": pair.uid, "pair": pair.number, "good": good, "bad": bad}
        for pair, (good, bad) in zip(pairs, scores.tolist(), strict=True)
    )
    write_atomic(file.with_suffix(".jsonl"), "".join(json.dumps(line) + "\n" for line in lines).encode())
    write_json(file, section)
    return section


def accuracies(pairs: Sequence[Pair], scores: NDArray[np.float64]) -> dict[str, Any]:
    """Shares of right pairs from the scores (good, bad) [N, 2]: overall, by paradigm, term and field; see `pairs_section`.

    The accuracy of a term, a field and the whole is the mean over its paradigms, whatever their sizes.
    """
    right, tied = scores[:, 0] > scores[:, 1], scores[:, 0] == scores[:, 1]
    members: dict[str, list[int]] = {}
    for i, pair in enumerate(pairs):
        members.setdefault(pair.uid, []).append(i)
    first = {uid: pairs[numbers[0]] for uid, numbers in members.items()}

    def summed(uids: Sequence[str]) -> dict[str, Any]:
        shares = [float(right[members[uid]].mean()) for uid in uids]
        sizes = [len(members[uid]) for uid in uids]
        return {
            "accuracy": statistics.fmean(shares),
            "interval": asdict(wilson(shares, sizes)),
            "n": sum(sizes),
            "ties": int(sum(tied[members[uid]].sum() for uid in uids)),
        }

    groups: dict[str, dict[str, list[str]]] = {"terms": {}, "fields": {}}
    for uid, pair in first.items():
        for kind, group in (("terms", pair.term), ("fields", pair.field)):
            if group:
                groups[kind].setdefault(group, []).append(uid)
    return {
        **summed(list(members)),
        "pairs_accuracy": float(right.mean()),
        "paradigms": {uid: {**summed([uid]), "term": first[uid].term, "field": first[uid].field} for uid in members},
        **{kind: {g: {**summed(uids), "paradigms": len(uids)} for g, uids in found.items()} for kind, found in groups.items()},
    }  # fmt: skip


def wilson(shares: Sequence[float], sizes: Sequence[int]) -> Interval:
    """The interval of a mean of shares, over pairs drawn anew inside of each paradigm: Wilson's (JASA 22, 1927).

    Of several shares, with the size that one sample of the same variance would have (Korn & Graubard, Survey Methodology
    24, 1998). Variances are of shares with two right and two wrong pairs added, since a few pairs that are all right do not
    say that the next one will be.
    """
    n, mean = sum(sizes), statistics.fmean(shares)
    smooth = [(p * size + 2) / (size + 4) for p, size in zip(shares, sizes, strict=True)]
    variance = sum(p * (1 - p) / size for p, size in zip(smooth, sizes, strict=True)) / len(shares) ** 2
    middle = statistics.fmean(smooth)
    effective = middle * (1 - middle) / variance
    z = _Z**2 / effective
    middle, half = (
        (mean + z / 2) / (1 + z),
        _Z * math.sqrt(mean * (1 - mean) / effective + z / (4 * effective)) / (1 + z),
    )
    return Interval(
        low=max(0.0, middle - half), high=min(1.0, middle + half), confidence=CONFIDENCE, method="Wilson", n=n
    )


def hash_pairs(pairs: Sequence[Pair]) -> str:
    """xxh3-128 of all that is read of the pairs."""
    digest = xxhash.xxh3_128()
    for pair in pairs:
        digest.update(json.dumps(asdict(pair)).encode() + b"\n")
    return digest.hexdigest()


def _named(path: Path) -> str:
    """What pairs are called: the folder's name, whatever the way to it, or the file's without the suffixes of its kind."""
    path = path.resolve()
    if path.is_dir():
        return path.name
    inner = _unpacked(path)
    return inner.stem if inner.suffix in SUFFIXES else inner.name


def _is_lines(path: Path) -> bool:
    return _unpacked(path).suffix in SUFFIXES and path.is_file()


def _unpacked(path: Path) -> Path:
    return Path(path.stem) if path.suffix in COMPRESSIONS else path


def _index(path: Path) -> dict[str, dict[str, Any]]:
    """Entries of an index by file name; none where there is no index."""
    if not path.is_file():
        return {}
    entries = read_json(path)
    if not isinstance(entries, list) or not all(
        isinstance(e, dict) and isinstance(e.get("file"), str) for e in entries
    ):
        raise DataError(
            f"{path} is no list of files", fix='write [{"file": ..., "UID": ..., "field": ...}, ...], or remove it'
        )
    return {entry["file"]: entry for entry in entries}


def _pairs_of(file: Path, known: dict[str, Any]) -> Iterator[Pair]:
    name = _named(file)
    for number, line in enumerate(_lines(file)):
        where = f"{file}, line {number + 1}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{file} holds a line that is not JSON: {error}", where=where, fix="give JSON lines"
            ) from error
        if not isinstance(row, dict) or not all(
            isinstance(row.get(key), str) and row[key].strip() for key in (GOOD, BAD)
        ):
            has = f"it has {', '.join(map(str, row))}" if isinstance(row, dict) else "it is no JSON object"
            raise DataError(
                f"{file} holds a line without two sentences: {has}", where=where, fix=f"name them {GOOD} and {BAD}"
            )
        uid, term, group = (
            str(row.get(k, known.get(k, d))) for k, d in (("UID", name), ("linguistics_term", ""), ("field", ""))
        )
        # One of BLiMP's files spells its field syntax/semantics, the others syntax_semantics.
        yield Pair(row[GOOD], row[BAD], uid, term, group.replace("/", "_"), str(row.get("pairID", number)))


def _lines(file: Path) -> Iterator[bytes]:
    with open_decoded(file) as stream:
        while line := stream.readline(MOST_LINE):
            if len(line) == MOST_LINE:
                raise DataError(f"{file} holds a line of more than {MOST_LINE:,} bytes", fix="give JSON lines of pairs")
            if line.strip():
                yield line


def _known(file: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The section in a file, or None where there is none, it is damaged, or it answers another question."""
    if not file.is_file() or not file.with_suffix(".jsonl").is_file():
        return None
    try:
        found = read_json(file)
    except DataError:
        return None  # it is made anew
    same = isinstance(found, dict) and all(found.get(key) == value for key, value in identity.items())
    return found if same else None
