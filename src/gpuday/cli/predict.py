"""`gpuday predict`: a kept model's answers to the rows of a file, read, answered and written a part at a time."""

import contextlib
import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from gpuday.cli.flags import Output, TextColumns
from gpuday.cli.screen import Screen
from gpuday.core.absent import why_absent
from gpuday.core.errors import DataError, UsageError
from gpuday.core.rundir import fsync_folder, no_link
from gpuday.evaluate.tasks.own_stream import Part, unlabelled_parts
from gpuday.export.predicting import ROWS, Predicting, load_finetuned
from gpuday.train.device import configure, pick_device

FORMATS = (".jsonl", ".csv")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # beginnings of what a spreadsheet computes
SHOWN = 10  # lines without text in a warning
CELLS = ("number", "id", "prediction", "probability", "probabilities")

Row = dict[str, Any]


def predict_command(
    folder: Path,
    file: Path,
    *,
    out: Path,
    text: TextColumns = (),
    output: Output = Output(),  # noqa: B008
) -> None:
    """Answer the rows of a file with a fine-tuned model that was kept."""
    with Screen(as_json=output.json) as screen:
        _check_out(out, file)
        if not folder.is_dir():
            fix = why_absent(str(folder)) if not folder.exists() else "give a folder below RUN/finetuned/"
            raise DataError(f"{folder} is not a folder", where="FOLDER", fix=fix)
        device = pick_device()
        configure(device, exact=True)
        model = load_finetuned(folder, device=device)
        count, unanswered, lines, unit = 0, 0, list[int](), ""
        with _replacing(out) as write:
            parts = unlabelled_parts(model.kept.as_task(), file, text or _columns(model), ROWS, named=bool(text))
            for part in parts:
                for row in _numbered(model, part, count):
                    write(row)
                count += len(part.rows)
                unanswered += len(part.empty)
                lines += list(part.empty.values())[: SHOWN - len(lines)]
                unit = part.unit
                screen.tell("progress", rows=count)
        if unanswered:
            screen.tell("notice", message=_without_text(unanswered, lines, unit))
        screen.tell("predict", task=model.kept.task, rows=count, unanswered=unanswered, file=os.fspath(out))


def _columns(model: Predicting) -> tuple[str, ...]:
    """Those that the model was fine-tuned on."""
    kept = model.kept
    if kept.kind not in ("classification", "regression"):
        return ()
    return (kept.columns.text_a, *([kept.columns.text_b] if kept.columns.text_b is not None else []))


def _numbered(model: Predicting, part: Part, before: int) -> Iterator[Row]:
    """The answers of all rows that have their texts, and an empty one of each that has not."""
    ids = part.rows.ids
    for at, answer in enumerate(model.predict(part.rows, but=part.empty)):
        named = {} if ids is None else {"id": ids[at]}
        yield {"number": before + at + 1, **named, **answer}


def _without_text(count: int, lines: Sequence[int], unit: str) -> str:
    """`1 row has no text, and so no answer: line 3`"""
    one = f"1 row has no text, and so no answer: {unit}"
    what = one if count == 1 else f"{count:,} rows have no text, and so no answer: {unit}s"
    more = f" and {count - len(lines):,} more" if count > len(lines) else ""
    return f"{what} {', '.join(map(str, lines))}{more}"


def _check_out(out: Path, file: Path) -> None:
    if out.suffix not in FORMATS:
        raise UsageError(f"{out} is of no known kind", where="--out", fix=f"end its name in {' or '.join(FORMATS)}")
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise UsageError(f"{out} cannot be written", where="--out", fix="name a file in a folder that is there")
    if out.exists() and file.exists() and out.samefile(file):
        raise UsageError("the answers would take the place of the rows", where="--out", fix="name another file")


@contextlib.contextmanager
def _replacing(out: Path) -> Iterator[Callable[[Row], None]]:
    """Writes rows into a file that appears, or takes an older one's place, when all of them are there."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", newline="", opener=no_link) as file:
            yield _as_csv(file) if out.suffix == ".csv" else _as_json(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, out)
        fsync_folder(out.absolute().parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _as_json(file: IO[str]) -> Callable[[Row], None]:
    def write(row: Row) -> None:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")

    return write


def _as_csv(file: IO[str]) -> Callable[[Row], None]:
    """Lists and tables of probabilities are JSON in their cell; columns that a task has not are empty. An apostrophe stands
    before text that a spreadsheet would compute, such as a label `=1+1`; in JSON lines it stands as it is."""
    # All text is quoted: csv leaves a lone carriage return bare, behind which a spreadsheet begins another row.
    writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(CELLS)

    def write(row: Row) -> None:
        writer.writerow(_cell(row.get(name)) for name in CELLS)

    return write


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
