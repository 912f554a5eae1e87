"""The zip that GLUE's server takes: a file for each test set, `index` and `prediction` in every row.

Format: gluebenchmark.com/faq and the sample that it links to. Row counts are those of the official test sets. The server
scores all tasks or none, so that what is missing is refused unless a constant is asked for in its place.
"""

import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpuday.core.errors import DataError, UsageError
from gpuday.core.rundir import write_atomic
from gpuday.evaluate.metrics import Predicted

HEADER = "index\tprediction"
HIGHEST = 5.0  # of STS-B, whose lowest value is 0
BINARY = ("0", "1")
ENTAILED = ("entailment", "not_entailment")
THREE_WAY = ("entailment", "neutral", "contradiction")
MAX_BYTES = 64 << 20  # of an unpacked file; QQP, the largest, has 4 MB
SHOWN = 5  # faults in one error
EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest date of a zip: the same answers give the same bytes


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One file of the zip."""

    task: str
    """Whose test rows it answers: the name of a task, or of a further set of rows that a task's model answers too."""
    model: str
    """The task that is fine-tuned for it."""
    rows: int
    """Rows of the official test set."""
    answers: tuple[str, ...] = ()
    """What stands for class 0, 1, ...; empty for a number from 0 to 5."""


def _sheet(task: str, rows: int, answers: tuple[str, ...] = BINARY, model: str = "") -> Sheet:
    return Sheet(task=task, model=model or task, rows=rows, answers=answers)


SHEETS: dict[str, Sheet] = {
    "CoLA": _sheet("CoLA", 1063),
    "SST-2": _sheet("SST-2", 1821),
    "MRPC": _sheet("MRPC", 1725),
    "STS-B": _sheet("STS-B", 1379, ()),
    "QQP": _sheet("QQP", 390_965),
    "MNLI-m": _sheet("MNLI", 9796, THREE_WAY),
    "MNLI-mm": _sheet("MNLI-mm", 9847, THREE_WAY, "MNLI"),
    "QNLI": _sheet("QNLI", 5463, ENTAILED),
    "RTE": _sheet("RTE", 3000, ENTAILED),
    "WNLI": _sheet("WNLI", 146),
    "AX": _sheet("AX", 1104, THREE_WAY, "MNLI"),
}


def missing(rows: Mapping[str, int]) -> list[str]:
    """What keeps a submission from being whole, given the test rows there are by the name of their set; empty if nothing."""
    faults = []
    for name, sheet in SHEETS.items():
        if sheet.task not in rows:
            faults.append(f"{name}: no test rows of {sheet.task}")
        elif rows[sheet.task] != sheet.rows:
            faults.append(f"{name}: {rows[sheet.task]:,} test rows of {sheet.task}, {sheet.rows:,} in the official set")
    return faults


def require_whole(rows: Mapping[str, int], *, fill: bool) -> None:
    """Raise UsageError that lists what is `missing`. With `fill` only sets that are there and not whole are refused."""
    faults = [fault for fault in missing(rows) if not (fill and ": no test rows" in fault)]
    if faults:
        raise UsageError(
            "the submission would not be whole\n" + "\n".join(faults),
            where="--submission",
            fix="put the official test files beside the others and name all of glue in --tasks; or write a constant for "
            "the sets that are missing with --submission-fill",
        )


def write_submission(path: Path, predicted: Mapping[str, Predicted], *, fill: bool = False) -> list[str]:
    """Write the zip of predictions by the name of their test set (class numbers [N], STS-B's values [N]), and check it.

    With `fill` a set that is missing is answered with its first label, or 0; returns the files of which that holds.
    """
    require_whole({name: len(values) for name, values in predicted.items()}, fill=fill)
    buffer, filled = io.BytesIO(), []
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, sheet in SHEETS.items():
            if sheet.task not in predicted:
                filled.append(name)
            values: Predicted = predicted.get(sheet.task, np.zeros(sheet.rows, dtype=np.int64))
            answers = [f"{i}\t{_answer(value, sheet)}" for i, value in enumerate(values)]
            info = zipfile.ZipInfo(f"{name}.tsv", EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, "\n".join([HEADER, *answers, ""]))
    if faults := _faults(buffer):
        raise DataError("the submission is not what the server takes: " + "; ".join(faults[:SHOWN]))
    write_atomic(path, buffer.getvalue())
    return filled


def check_submission(path: Path) -> None:
    """Raise DataError, with the first faults, for a zip that the server would refuse or misread."""
    try:
        faults = _faults(io.BytesIO(path.read_bytes()))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", fix="check the path") from error
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise DataError(
            "not what GLUE's server takes: " + "; ".join(faults[:SHOWN]) + more,
            where=str(path),
            fix="write it again with gpuday evaluate --submission",
        )


def _answer(value: Any, sheet: Sheet) -> str:
    return sheet.answers[int(value)] if sheet.answers else f"{min(HIGHEST, max(0.0, float(value))):.3f}"


def _faults(file: io.BytesIO) -> list[str]:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            names = sorted(entry.filename for entry in entries)
            wanted = sorted(f"{name}.tsv" for name in SHEETS)
            if names != wanted:
                lacking, strange = set(wanted) - set(names), set(names) - set(wanted)
                faults = [f"no {name}" for name in sorted(lacking)] + [
                    f"{name} is not asked for" for name in sorted(strange)
                ]
                return faults or ["a file is in it twice"]
            large = [f"{e.filename} unpacks to {e.file_size:,} bytes" for e in entries if e.file_size > MAX_BYTES]
            return large or [f for name, sheet in SHEETS.items() for f in _sheet_faults(name, sheet, archive)]
    except (zipfile.BadZipFile, EOFError) as error:
        return [f"no zip that can be read: {error}"]


def _sheet_faults(name: str, sheet: Sheet, archive: zipfile.ZipFile) -> list[str]:
    """The first fault of one file, if there is any."""
    try:
        lines = archive.read(f"{name}.tsv").decode("ascii").split("\n")
    except UnicodeDecodeError:
        return [f"{name}.tsv holds more than ASCII"]
    if lines[0] != HEADER:
        return [f"{name}.tsv begins with {lines[0][:40]!r}, not with index and prediction"]
    rows = lines[1:-1] if lines[-1] == "" else lines[1:]
    if len(rows) != sheet.rows:
        return [f"{name}.tsv has {len(rows):,} rows, not {sheet.rows:,}"]
    return next(
        ([f"{name}.tsv, row {i}: {fault}"] for i, row in enumerate(rows) if (fault := _row_fault(i, row, sheet))), []
    )


def _row_fault(index: int, row: str, sheet: Sheet) -> str:
    cells: Sequence[str] = row.split("\t")
    if len(cells) != 2 or cells[0] != str(index):
        return f"{row[:40]!r} is not {index}, a tab and an answer"
    if sheet.answers:
        return "" if cells[1] in sheet.answers else f"{cells[1][:40]!r} is none of {', '.join(sheet.answers)}"
    try:
        value = float(cells[1])
    except ValueError:
        value = math.nan
    return "" if 0 <= value <= HIGHEST else f"{cells[1][:40]!r} is no number from 0 to {HIGHEST:g}"
