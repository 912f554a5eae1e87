"""What a person sees: a live line from the budget on a terminal, one JSON line per event elsewhere or with --json.

Text from a corpus or a file name is data: it is printed without markup, without control characters and without those
that turn the direction of what follows, and a value keeps to its line.
"""

import contextlib
import errno
import json
import math
import os
import time
from types import TracebackType
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from gpuday.core.errors import FULL, GpudayError
from gpuday.core.printable import plain

LEAST_SECONDS = 1.0  # between two events of one kind that come in streams
STREAMS = ("step", "progress", "finetune")
LOOKS = ("validation", "heldout")
LEAST_COLUMN = 7  # characters of a narrow table's columns, with what divides them
LONGEST = 4000  # characters of one value: a key of a megabyte in a file must not fill the screen


class Output(Console):
    """A console whose reader may go away: a BrokenPipeError as from any file, not an exit with a code of rich's own."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def clean(text: str) -> str:
    """Text without control characters, so that nothing from a file can steer the terminal."""
    return plain(text, also="\n\t")


def one_line(text: str) -> str:
    """`clean`, without line ends and tabs: a value cannot pass for a line of its own, nor one fill the screen."""
    return clean(_cut(text)).replace("\n", " ").replace("\t", " ")


def escaped(value: Any) -> str:
    """Indented JSON in which every character that no terminal should get is an escape; the value is the same."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return "".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in text)


def show_error(error: GpudayError) -> None:
    """What happened, where, and the likeliest fix, on standard error; further lines of a text stand deeper."""
    console = Output(stderr=True, highlight=False)
    parts = (("error: ", error.what), ("  where: ", error.where), ("  fix:   ", error.fix))
    shown = [
        lead + clean(_cut(text)).replace("\n", "\n" + " " * 9) for lead, text in parts if text or lead == "error: "
    ]
    console.print(Text("\n".join(shown), style="red" if console.is_terminal else ""), soft_wrap=True)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... ({len(text):,} characters)"


def duration(seconds: float) -> str:
    """`3 h 04 min`, `4 min 10 s` or `12 s`."""
    whole = max(0, round(seconds))
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def figure(value: Any) -> str:
    """A number for people: four significant digits, thousands apart; of a table each behind its name; anything else as text."""
    if isinstance(value, dict):
        return "; ".join(f"{one_line(str(name))} {figure(of_it)}" for name, of_it in value.items())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return one_line(str(value))
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


class Screen:
    """Receives events (`tell`) and shows them, unless it is `silent`; a context manager, so that the live line ends
    cleanly."""

    def __init__(self, *, as_json: bool, budget_seconds: float | None = None, silent: bool = False) -> None:
        self.console = Output(highlight=False)
        self.as_json = as_json or not self.console.is_terminal
        self.budget_seconds = budget_seconds
        self._deaf = silent
        self._last: dict[str, float] = {}
        self._bar: Progress | None = None
        self._nats = ""

    def __enter__(self) -> "Screen":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end_bar()

    def tell(self, event: str, /, **values: Any) -> None:
        """Show one event; streams are thinned to one a second."""
        if event in STREAMS:
            now = time.monotonic()
            if now - self._last.get(event, -LEAST_SECONDS) < LEAST_SECONDS:
                return
            self._last[event] = now
        if self._deaf:
            return
        try:
            self._show(event, values)
        except OSError as error:  # whoever read along has gone, or a terminal; what is told is not worth a run
            self._deaf = error.errno not in FULL  # a full disk may have room again

    def _show(self, event: str, values: dict[str, Any]) -> None:
        if self.as_json:
            finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
            print(json.dumps({"event": event, **finite}, default=str), flush=True)
        elif event == "step":
            self._show_step(values)
        else:
            self._show_line(event, values)

    def table(self, title: str, rows: list[dict[str, Any]]) -> None:
        """Rows of equal keys as a table, or as JSON lines. Nothing is cut off on a narrow terminal: the first column, which
        names the row, stays on one line where it can, and the others go on below."""
        if self.as_json:
            for row in rows:
                print(json.dumps(row, default=str), flush=True)
            return
        if title:  # apart from the table, whose width would cut it, and as data: it may name what a file holds
            self.console.print(Text(one_line(title), style="table.title"))
        table = Table()
        names = list(rows[0] if rows else ["nothing found"])
        told = [["" if value is None else figure(value) for value in row.values()] for row in rows]
        room = self.console.width - LEAST_COLUMN * len(names)
        longest = max((cell_len(cells[0]) for cells in told), default=0)
        for name in names:
            table.add_column(Text(one_line(name.replace("_", " "))), overflow="fold")
        table.columns[0].no_wrap = longest <= room
        for cells in told:
            table.add_row(*map(Text, cells))
        self.console.print(table)

    def document(self, value: Any) -> None:
        """A nested value as JSON, coloured on a terminal."""
        self.console.print(JSONHighlighter()(escaped(value)), soft_wrap=True)

    def _show_step(self, values: dict[str, Any]) -> None:
        if self._bar is None:
            columns = (TextColumn("train"), BarColumn(None), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=self.console)
            self._bar.add_task("", total=1.0)
            self._bar.start()
        fraction = float(values["fraction"])
        used = float(values["seconds"])
        left = (self.budget_seconds - used) if self.budget_seconds else used * (1 - fraction) / max(fraction, 1e-9)
        speed = values["tokens"] / used if used else 0.0
        text = (
            f"{fraction:4.0%} of budget | loss {values['loss']:.3f} | {speed / 1e3:,.1f}k tok/s"
            f" | step {values['step']:,} | {duration(left)} left"
        )
        self._bar.update(self._bar.task_ids[0], completed=fraction, description=text)

    def _show_line(self, event: str, values: dict[str, Any]) -> None:
        if event == "validation" and values.get("final"):
            self._end_bar()
        if event in LOOKS and not self._is_news(values):
            return
        reasons = values.pop("reasons", {})
        shown = ", ".join(
            f"{k.replace('_', ' ')} {duration(v) if k == 'left' else figure(v)}"
            for k, v in values.items()
            if v not in (None, "", {}, ())
        )
        line = Text(f"{event:>10}  ", style="bold")
        line.append(Text(shown, style=""))
        for name, reason in reasons.items():
            line.append(f"\n{'':12}{one_line(name)}: {one_line(reason)}")
        (self._bar.console if self._bar else self.console).print(line, soft_wrap=True)

    def _is_news(self, values: dict[str, Any]) -> bool:
        """Whether a look at held-out text says what the last line of one did not; a loss that it said already is taken out of
        the values. The last look of a training is always told, whole."""
        told, self._nats = self._nats, figure(values.get("nats_per_token"))
        if values.get("final") or told != self._nats:
            return True
        values.pop("nats_per_token", None)
        return values.get("word_bits_per_byte") is not None

    def _end_bar(self) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.stop()
            self._bar = None
