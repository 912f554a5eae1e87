"""The screen: JSON lines for programs, a live line for people, and nothing from a file that could steer a terminal."""

import errno
import io
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gpuday.cli import screen as screens
from gpuday.cli.screen import LONGEST, Screen, clean, duration, escaped, figure, one_line, show_error
from gpuday.core.errors import UsageError
from gpuday.core.printable import is_plain

STEP = {"step": 3, "fraction": 0.25, "seconds": 30.0, "tokens": 60_000, "loss": 5.4321}


class Terminal(Screen):
    """A screen on a terminal of 120 columns that is a string."""

    def __init__(self, **options: Any) -> None:
        super().__init__(as_json=False, **options)
        self.text = io.StringIO()
        self.console = Console(file=self.text, force_terminal=True, width=120, highlight=False, color_system=None)
        self.as_json = False


def strict(line: str) -> dict[str, Any]:
    """JSON by the letter: NaN and Infinity are none."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(line, parse_constant=refuse)


def test_events_are_json_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """One line an event, each by itself JSON, flushed as it comes."""
    with Screen(as_json=False) as screen:
        assert screen.as_json
        screen.tell("run", folder="runs/a\nb", size="nano")
        screen.tell("validation", step=1, nats_per_token=6.25, final=False)
    lines = [strict(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        {"event": "run", "folder": "runs/a\nb", "size": "nano"},
        {"event": "validation", "step": 1, "nats_per_token": 6.25, "final": False},
    ]


@pytest.mark.parametrize("as_json", [True, False])
def test_a_silent_screen_shows_nothing(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """For the ranks that do not lead: every event is shown by one process."""
    with Screen(as_json=as_json, silent=True) as screen:
        screen.tell("run", folder="runs/a")
        screen.tell("step", **STEP)
    assert capsys.readouterr().out == ""


def test_reasons_stand_below_the_choice_that_they_explain() -> None:
    """One line each, without control characters; the line above stays as short as it was."""
    screen = Terminal()
    screen.tell("fit", rows=64, reasons={"threads": "2: all cores", "dtype": "bf\x1b16"})
    lines = screen.text.getvalue().splitlines()
    assert [line.strip() for line in lines] == ["fit  rows 64", "threads: 2: all cores", "dtype: bf�16"]


def test_json_may_be_asked_for_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` wins."""
    assert Screen(as_json=True).as_json
    screen = Terminal()
    screen.as_json = True
    screen.tell("run", folder="a")
    assert strict(capsys.readouterr().out) == {"event": "run", "folder": "a"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_json_lacks_leaves_a_line_that_is_json(value: float, capsys: pytest.CaptureFixture[str]) -> None:
    """The loss of an update that was not made: as in the journal, null."""
    Screen(as_json=True).tell("step", **{**STEP, "loss": value})
    assert strict(capsys.readouterr().out)["loss"] is None


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(errno.EIO, "Input/output error")])
def test_a_reader_that_went_away_does_not_end_a_run(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    """`gpuday run | head`, or a terminal that was closed: what is told is lost, and the run has its way to save."""
    tried: list[object] = []

    def broken(*args: object, **_: object) -> None:
        tried.append(args)
        raise error

    monkeypatch.setattr("builtins.print", broken)
    screen = Screen(as_json=True)
    for _ in range(3):
        screen.tell("note", message="a")
    assert len(tried) == 1


def test_control_characters_travel_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    """A JSON line is plain ASCII, so that `tail -f` on it is safe."""
    Screen(as_json=True).tell("note", message="a\x1b[31mb\x9bc\u202e")
    out = capsys.readouterr().out
    assert out.isascii() and "\x1b" not in out
    assert strict(out)["message"] == "a\x1b[31mb\x9bc\u202e"


@pytest.mark.parametrize("event", ["step", "progress", "finetune"])
def test_streams_are_thinned_to_one_a_second(
    event: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two hundred events in ten seconds leave ten lines: the first, and one in each second after it."""
    now = 100.0
    monkeypatch.setattr(screens.time, "monotonic", lambda: now)
    screen = Screen(as_json=True)
    for i in range(200):
        screen.tell(event, **{**STEP, "step": i})
        now += 0.05
    steps = [strict(line)["step"] for line in capsys.readouterr().out.splitlines()]
    assert steps[0] == 0
    assert 9 <= len(steps) <= 10
    assert min(b - a for a, b in itertools.pairwise(steps)) >= 20


def test_streams_do_not_thin_one_another_nor_anything_else(capsys: pytest.CaptureFixture[str]) -> None:
    """An event that comes once is always shown."""
    screen = Screen(as_json=True)
    for event in ("step", "finetune", "validation", "validation", "note", "note"):
        screen.tell(event, **STEP)
    assert [strict(line)["event"] for line in capsys.readouterr().out.splitlines()] == [
        "step",
        "finetune",
        "validation",
        "validation",
        "note",
        "note",
    ]


def test_a_person_sees_budget_loss_speed_and_time_left() -> None:
    """At a quarter of 120 seconds: 60,000 tokens in 30 s are 2,000 a second, and a minute and a half is left."""
    with Terminal(budget_seconds=120.0) as screen:
        screen.tell("step", **STEP)
    shown = screen.text.getvalue()
    for part in ("25% of budget", "loss 5.432", "2.0k tok/s", "step 3", "1 min 30 s left"):
        assert part in shown


def test_the_time_left_of_other_budgets_follows_from_the_share_that_is_done() -> None:
    """A quarter took 30 s: three quarters take 90 s."""
    with Terminal() as screen:
        screen.tell("step", **STEP)
    assert "1 min 30 s left" in screen.text.getvalue()


def test_the_live_line_ends_with_the_block_even_after_a_fault() -> None:
    """The cursor is shown again."""
    screen = Terminal()
    with pytest.raises(ZeroDivisionError), screen:
        screen.tell("step", **STEP)
        raise ZeroDivisionError
    assert screen.text.getvalue().count("\x1b[?25l") == screen.text.getvalue().count("\x1b[?25h") == 1


def test_other_events_are_lines_of_figures() -> None:
    """Names without underscores, four digits, thousands apart; what is empty is left out, zero and False are not."""
    with Terminal() as screen:
        screen.tell("trained", tokens=1234567, used_seconds=12.34567, notice="", none=None, skipped=0, final=False)
    shown = screen.text.getvalue()
    assert "trained" in shown
    assert "tokens 1,234,567, used seconds 12.35, skipped 0, final False" in shown


def test_a_look_at_held_out_text_is_a_line_where_it_is_news() -> None:
    """Looks that say the same loss are one line; the end is told whatever it says, and what is measured after it stands
    alone where the loss is known."""
    with Terminal() as screen:
        for step, nats in ((0, 6.25), (1, 6.25), (2, 6.0)):
            screen.tell("validation", step=step, nats_per_token=nats, final=False)
        screen.tell("validation", step=3, nats_per_token=6.0, final=True)
        screen.tell("heldout", nats_per_token=6.0, word_bits_per_byte=2.5)
        screen.tell("heldout", nats_per_token=6.0, word_bits_per_byte=None)
    assert [" ".join(line.split()) for line in screen.text.getvalue().splitlines()] == [
        "validation step 0, nats per token 6.25, final False",
        "validation step 2, nats per token 6, final False",
        "validation step 3, nats per token 6, final True",
        "heldout word bits per byte 2.5",
    ]


def test_a_table_in_a_line_is_read_like_the_rest() -> None:
    """Each figure behind its name."""
    with Terminal() as screen:
        screen.tell("plan", train_rows={"CoLA": 8551, "RTE": 2490}, seeds=5)
    assert "train rows CoLA 8,551; RTE 2,490, seeds 5" in screen.text.getvalue()


def test_text_from_a_file_is_neither_markup_nor_control() -> None:
    """Brackets are shown as they are, escapes are not sent."""
    with Terminal() as screen:
        screen.tell("note", message="[bold]x[/bold] \x1b[2J \x07")
        screen.table("t", [{"a": "[red]y[/red] \x1b]0;title\x07"}])
    shown = screen.text.getvalue()
    assert "[bold]x[/bold]" in shown and "[red]y[/red]" in shown
    assert "\x1b[2J" not in shown and "\x1b]0;" not in shown and "\x07" not in shown


@given(st.text())
def test_clean_text_has_no_control_characters(text: str) -> None:
    """Every character is plain, or a newline or tab; printable text passes unchanged, at equal length."""
    cleaned = clean(text)
    assert all(is_plain(c) or c in "\n\t" for c in cleaned)
    assert len(cleaned) == len(text)
    assert all(a == b for a, b in zip(text, cleaned, strict=True) if a.isprintable())


@given(st.text())
def test_a_value_keeps_to_its_line(text: str) -> None:
    """No line end of any kind, no tab; everything else as in clean text."""
    assert one_line(text) == clean(text).replace("\n", " ").replace("\t", " ")
    assert len(one_line(text).splitlines()) <= 1


def test_a_long_value_is_cut() -> None:
    """Its length is told; one that just fits is whole."""
    assert one_line("x" * LONGEST) == "x" * LONGEST
    assert one_line("x" * (LONGEST + 1)) == "x" * LONGEST + f" ... ({LONGEST + 1:,} characters)"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
)


@given(values)
def test_escaped_json_is_printable_and_the_same_value(value: Any) -> None:
    """Escapes for control characters, directions and lone surrogates alone."""
    text = escaped(value)
    assert all(c.isprintable() or c == "\n" for c in text)
    assert json.loads(text) == value
    assert escaped("b\xfccher 東京") == '"b\xfccher 東京"'


def test_a_nested_record_is_json_on_a_terminal_and_off_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Not wrapped, so that it can be copied; brackets are no markup."""
    value = {"a": ["[bold]x[/bold]", "y" * 300], "b": {"c": 1.5}}
    screen = Terminal()
    screen.document(value)
    Screen(as_json=True).document(value)
    assert json.loads(screen.text.getvalue()) == json.loads(capsys.readouterr().out) == value


def test_a_table_is_json_lines_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """A row a line; nothing at all where there is nothing."""
    screen = Screen(as_json=True)
    screen.table("runs", [{"a": 1, "b": None}, {"a": 2, "b": "x"}])
    screen.table("runs", [])
    lines = [strict(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]


def test_a_table_is_a_table_for_people() -> None:
    """Keys as headings, figures in cells, and a word where it is empty."""
    screen = Terminal()
    screen.table("runs", [{"used_seconds": 12345.678, "name": None}])
    screen.table("runs", [])
    shown = screen.text.getvalue()
    assert "used seconds" in shown and "1.235e+04" in shown and "nothing found" in shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (0, "0 s"), (12.4, "12 s"), (59.6, "1 min 00 s"), (250, "4 min 10 s"), (11_045, "3 h 04 min")],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    """Worked by hand; never 60 seconds, never below zero."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234567, "1,234,567"), (5.43210, "5.432"), (True, "True"), ("a\x07", "a�"), (1e-9, "1e-09"), (0.5, "0.5")],
)
def test_figures_are_for_people(value: Any, text: str) -> None:
    """Whole numbers whole, others to four digits, text cleaned."""
    assert figure(value) == text


def test_an_errors_further_lines_stand_deeper(capsys: pytest.CaptureFixture[str]) -> None:
    """So that no line of a text passes for a fix; a place and a fix that are not there leave no line."""
    show_error(UsageError("a\n  fix:   b\x1b[2J", fix="c"))
    assert capsys.readouterr().err == "error: a\n           fix:   b�[2J\n  fix:   c\n"
    show_error(UsageError(""))
    assert capsys.readouterr().err == "error: \n"


def test_an_error_goes_to_standard_error_on_lines_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Not wrapped, whatever the width, so that a path can be copied."""
    show_error(UsageError("x" * 300, where="[a]", fix="b"))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"error: {'x' * 300}\n  where: [a]\n  fix:   b\n"


def test_a_reader_of_errors_that_went_away_does_not_change_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a broken pipe, which the command line passes over, and not an exit with rich's own code."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("sys.stderr", Gone())
    with pytest.raises(BrokenPipeError):
        show_error(UsageError("x"))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_table_cuts_nothing_off(width: int) -> None:
    """On a narrow terminal the name that a row begins with stays whole, and longer values go on below."""
    screen = Terminal()
    screen.console.width = width
    name, long = "modern-nano-3steps-576c7f92", "model.feedforward_every=0 " * 6
    screen.table("runs [bold]all[/bold]", [{"name": name, "changed": long, "nats": 4.127, "note": "as x" * 9}])
    text = screen.text.getvalue()
    assert "runs [bold]all[/bold]" in text and name in text and "\N{HORIZONTAL ELLIPSIS}" not in text
    columns = zip(*(line.split("│")[1:-1] for line in text.splitlines() if line.startswith("│")), strict=True)
    joined = ["".join("".join(column).split()) for column in columns]
    assert joined == [name, long.replace(" ", ""), "4.127", "asx" * 9]
    assert max(map(len, text.splitlines())) <= width
