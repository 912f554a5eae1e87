"""Text is data: what a corpus, a file name, a label or a note holds is shown as text by every surface, and does nothing.

The strings are those of tests/report/injections.json, which the report's page meets in tests/report and, in a browser,
in tests/browser. Here they meet the terminal, the JSON lines, the model card and the record of the environment.
"""

import ast
import csv
import dataclasses
import io
import json
import os
import pty
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console

from gpuday.cli.predict import FORMULA, _as_csv
from gpuday.cli.screen import Screen, escaped, show_error
from gpuday.core.clock import Budget
from gpuday.core.config import to_dict
from gpuday.core.errors import DataError, UsageError
from gpuday.core.journal import Journal, Note, Start
from gpuday.core.rundir import check_name
from gpuday.data.prepare import DataConfig
from gpuday.export.card import write_card
from gpuday.recipe import Recipe
from gpuday.report.load import load_run
from gpuday.report.page import render

ROOT = Path(__file__).resolve().parents[2]
INJECTIONS: list[str] = json.loads((ROOT / "tests" / "report" / "injections.json").read_text())
SUMMARY: dict[str, Any] = {"heldout": {"nats_per_token": 3.2}, "train": {"steps": 12}, "clock": {"used_seconds": 9.5}}


JOINERS = "\u200c\u200d\u200e\u200f\u061c"  # a name in Persian or Arabic has them, and they turn nothing that follows


def unprintable(text: str, *, allowed: str = "\n") -> list[str]:
    """Control and format characters: C0, C1, those that turn directions or show nothing, surrogates, line separators."""
    return [c for c in text if not c.isprintable() and c not in allowed + JOINERS and unicodedata.category(c) != "Zs"]


@pytest.fixture
def terminal() -> tuple[Screen, io.StringIO]:
    """A screen on a terminal without colours, so that every escape on it is one too many; and what was shown."""
    shown = io.StringIO()
    screen = Screen(as_json=False)
    screen.console = Console(file=shown, width=200, highlight=False, color_system=None)
    screen.as_json = False
    return screen, shown


def test_there_are_strings_of_every_kind() -> None:
    """More than a hundred, none twice: markup of pages, terminals, rich, markdown, YAML, JSON, tables and shells."""
    assert len(set(INJECTIONS)) == len(INJECTIONS) >= 110
    kinds = (
        "<script",
        "javascript:",
        "data:",
        "{{",
        "${",
        "\u2028",
        "\x1b]8;;",
        "\x1b]0;",
        "\x9b",
        "[bold",
        "[/INST]",
        "\u202e",
    )
    kinds += ("\u200b", "=cmd|", "\t=", "@SUM", "+1", "-2", "](http", "---\n", "!!python", "```", '"}\n{', "\r", "../")
    assert [kind for kind in kinds if not any(kind in text for text in INJECTIONS)] == []


def test_no_text_steers_a_terminal(terminal: tuple[Screen, io.StringIO]) -> None:
    """As the value of any event, in a table, as a reason, in a nested record: no control character, no turned direction,
    and no value that passes for another line."""
    screen, shown = terminal
    for evil in INJECTIONS:
        with screen:
            screen.tell("note", message=evil, folder=evil, values=[evil], table={evil: evil})
            screen.tell("fit", rows=1, reasons={evil: evil})
            screen.table("runs", [{"name": evil, evil: 1}])
        lines = shown.getvalue().splitlines()
        assert unprintable(shown.getvalue()) == [], ascii(evil)
        assert [line for line in lines if line.startswith(("error:", "  fix:"))] == [], ascii(evil)
        assert lines[0].startswith("      note  ")
        assert lines[1].startswith("       fit  ") and lines[2].startswith(" " * 12)
        shown.seek(0)
        shown.truncate()


def test_rich_markup_and_links_are_letters(terminal: tuple[Screen, io.StringIO]) -> None:
    """Brackets stand there as they were given."""
    screen, shown = terminal
    for evil in (text for text in INJECTIONS if "[" in text and text.isprintable()):
        screen.tell("note", message=evil)
        assert evil in shown.getvalue()


def test_a_nested_record_is_json_without_raw_controls(terminal: tuple[Screen, io.StringIO]) -> None:
    """`gpuday show`: the same value is read back, and letters of other languages stay letters."""
    screen, shown = terminal
    value = {text: [text, {"b\xfccher": "東京"}] for text in INJECTIONS}
    screen.document(value)
    assert unprintable(shown.getvalue()) == []
    assert "b\xfccher" in shown.getvalue() and "東京" in shown.getvalue()
    assert json.loads(shown.getvalue()) == value == json.loads(escaped(value))


@pytest.mark.parametrize("where", ["what", "where", "fix"])
def test_an_error_cannot_forge_another(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever a file was called: no control character, one `error:`, at most one `where:` and one `fix:` at their
    places."""
    for evil in INJECTIONS:
        parts = {"what": "a", "where": "b", "fix": "c"} | {where: evil}
        show_error(DataError(parts["what"], where=parts["where"], fix=parts["fix"]))
        err = capsys.readouterr().err
        assert unprintable(err, allowed="\n\t") == [], ascii(evil)
        leads = [line[:9] for line in err.splitlines() if not line.startswith(" " * 9)]
        assert leads[0].startswith("error: ") and leads[1:] == ["  where: ", "  fix:   "], ascii(evil)


def test_a_megabyte_in_an_error_does_not_fill_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    """It is cut, and its length is told."""
    show_error(DataError("x" * 1_000_000, fix="y"))
    err = capsys.readouterr().err
    assert len(err) < 5000 and "1,000,000 characters" in err and "fix:   y" in err


def test_json_lines_stay_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    """ASCII alone, as many lines as events, and each holds the text that was told."""
    screen = Screen(as_json=True)
    for evil in INJECTIONS:
        screen.tell("note", message=evil)
        screen.table("runs", [{"name": evil, evil: 1}])
    out = capsys.readouterr().out
    assert out.isascii() and unprintable(out) == []
    lines = [json.loads(line) for line in out.split("\n")[:-1]]
    assert lines == [
        row for evil in INJECTIONS for row in ({"event": "note", "message": evil}, {"name": evil, evil: 1})
    ]


@pytest.fixture(scope="module")
def on_a_terminal(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """What a real terminal gets from `list`, `show`, a wrong flag and an error, of runs whose every text is hostile."""
    folder = tmp_path_factory.mktemp("runs")
    names = []
    for number, evil in enumerate(INJECTIONS):
        name = evil.encode("utf-8", "replace").decode()
        names.append(
            name if 0 < len(name.encode()) < 200 and not {"/", "\0"} & set(name) and name[0] != "-" else f"{number}"
        )
        run = folder / names[-1]
        run.mkdir()
        (run / "recipe.json").write_text(json.dumps({"preset": evil, "size": evil, "seed": evil, "budget": evil}))
        (run / "summary.json").write_text(json.dumps({"device": evil, "command": evil, "compliance": {evil: evil}}))
        journal = Journal(run / "journal.jsonl", attempt=1)
        journal.write(Start(step=0, used_seconds=0.0, device=evil, compiled=False, microbatch=1))
        journal.write(Note(step=0, message=evil))
        journal.close()
    calls = [["list", "."], ["show", "missing/\x1b[2J\u202e"], ["run", "--\x1b]0;x\x07"], ["run", "\x1b[2J[bold]x"]]
    calls += [["show", f"./{name}"] for name in names[::8]]
    code = "import json, sys\nfrom gpuday.cli import main\nfor call in json.loads(sys.argv[1]):\n    try: main(call)\n    except SystemExit: pass"
    owner, end = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": "200", "PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(calls)], cwd=folder, env=environment, stdin=end, stdout=end, stderr=end
    ) as process:
        os.close(end)
        pieces = []
        while True:
            try:
                pieces.append(os.read(owner, 1 << 16))
            except OSError:  # the other end was closed
                break
        os.close(owner)
    assert process.returncode == 0
    return b"".join(pieces).decode(), names


def test_a_real_terminal_gets_no_controls_from_hostile_runs(on_a_terminal: tuple[str, list[str]]) -> None:
    """Through the command line, on a pseudo-terminal: tables, records, usage errors and errors."""
    shown, names = on_a_terminal
    assert sum(name in shown for name in names if name.isprintable()) >= 40
    assert "is not there" in shown and "Unknown option" in shown and "no preset is called" in shown
    assert unprintable(shown.replace("\r\n", "\n")) == []


RECIPE = to_dict(Recipe(preset="modern", size="nano", budget=Budget.parse("10m")))


def card(text: str) -> str:
    """A model card in which every name and label is this text."""
    recipe = {
        **RECIPE,
        "preset": text,
        "size": text,
        "data": to_dict(DataConfig(corpus=(f"hub:{text}",), tokenizer=text)),
    }
    task = {"metric": text, "median": 0.5, "spread": 0.1, "n": 1, "partial": False, "baseline": {text: 0.1}}
    summary = {
        **SUMMARY,
        "device": text,
        "recipe_fingerprint": text,
        "scores": {text: {"protocol": text, "tasks": {text: task}}},
    }
    export = {"kind": "bert", "parity_max_abs": 1e-5, "max_length": 128, "transformers": text, "folder": text}
    return write_card(name=text, recipe=recipe, summary=summary, export=export)


def structure(tokens: list[Token] | None) -> list[Any]:
    """What a reader of markdown makes of a page, without its words: kinds, tags, attributes, and HTML as it stands."""
    kept: list[Any] = []
    for token in tokens or []:
        if token.type == "inline":
            kept.append(structure(token.children))
        elif token.type not in ("text", "text_special", "softbreak"):
            kept.append((token.type, token.tag, dict(token.attrs), token.content if "html" in token.type else ""))
    return kept


def test_no_text_is_markdown_or_html_on_the_model_card() -> None:
    """The page is built of the same headings, tables, code and HTML as with a harmless word, and has no link at all."""
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    pages = {evil: card(evil).partition("---\n# ")[2] for evil in INJECTIONS}
    expected = structure(reader.parse("# " + card("harmless").partition("---\n# ")[2]))
    for evil, page in pages.items():
        assert structure(reader.parse("# " + page)) == expected, ascii(evil)
        before_recipe = page.partition("```json")[0]
        assert unprintable(before_recipe) == [], ascii(evil)
        # Some readers make links of bare addresses: outside of code none is spelled like one.
        bare = re.sub("(?s)```.*?\n```|`[^`\n]*`", "", before_recipe)
        assert not re.search(r"(?i)[a-z]://|www\.|\w@\w", bare), ascii(evil)


def test_no_text_reaches_the_front_matter_of_the_model_card() -> None:
    """Its YAML is the same, whatever the names are, and holds four plain values."""
    for evil in INJECTIONS:
        head = card(evil).split("---\n")[1]
        assert head == card("harmless").split("---\n")[1], ascii(evil)
    assert yaml.safe_load(head) == {
        "library_name": "transformers",
        "pipeline_tag": "fill-mask",
        "tags": ["encoder", "masked-language-modelling", "bert", "gpuday"],
    }


def test_the_recipe_on_the_card_is_json_in_one_block() -> None:
    """No text ends the block, and the recipe can be read back."""
    for evil in INJECTIONS:
        block = card(evil).partition("```json\n")[2].partition("\n```")[0]
        assert json.loads(block)["preset"] == evil


def test_files_of_scores_are_text_on_the_page(tmp_path: Path) -> None:
    """Where no summary was written yet: the names of folders and the metrics in the files."""
    (tmp_path / "recipe.json").write_text("{}")
    for number, evil in enumerate(INJECTIONS):
        folder = tmp_path / "scores" / "pydocs" / f"<img src=x onerror=hacked=1>{number}"
        folder.mkdir(parents=True)
        (folder / "0.json").write_text(json.dumps({"score": 0.5, "metric": evil}))
    page = render(dataclasses.replace(load_run(tmp_path), name="run"), plotly="")
    assert "<img" not in page and page.count("&lt;img src=x onerror=hacked=1&gt;") >= len(INJECTIONS)
    assert page.count("<script") == 4  # our own three, and the block of numbers


def test_no_text_becomes_a_path() -> None:
    """What names a run, a milestone or the scores of an order is letters, digits, '.', '_' and '-', or is refused."""
    harmless = {"constructor"}
    for evil in {*INJECTIONS, "..", ".", "", ".hidden", "-rf", "a/b", "a\\b", "/etc", "a\n", "a" * 101} - harmless:
        with pytest.raises(UsageError):
            check_name(evil)
    assert check_name("constructor") == "constructor"


def test_no_text_is_a_formula_in_a_table() -> None:
    """`gpuday predict` writes an apostrophe before text that a spreadsheet would compute; numbers stay numbers."""
    file = io.StringIO()
    write = _as_csv(file)
    for evil in INJECTIONS:
        write({"number": 1, "id": evil, "prediction": evil, "probability": -0.5, "probabilities": {evil: 0.5}})
    write({"number": 1, "prediction": [evil], "probability": [0.5]})
    head, *rows = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert len(rows) == len(INJECTIONS) + 1
    for row, evil in zip(rows, INJECTIONS, strict=False):
        at = dict(zip(head, row, strict=True))
        assert not [cell for name, cell in at.items() if name != "probability" and cell.startswith(FORMULA)], ascii(
            evil
        )
        assert at["id"] == at["prediction"] and at["id"].removeprefix("'") in (evil, evil.removeprefix("'"))
        assert at["probability"] == "-0.5" and json.loads(at["probabilities"]) == {evil: 0.5}
    assert sum(row[1].startswith("'") for row in rows) >= 5


def test_there_is_no_other_table_for_spreadsheets() -> None:
    """No other module writes CSV, so that no formula can be in one; the report offers nothing to download."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        calls = [ast.unparse(n.func) for n in ast.walk(ast.parse(path.read_bytes())) if isinstance(n, ast.Call)]
        writers = {"csv.writer", "csv.DictWriter", "pandas.DataFrame"} & set(calls)
        assert writers == ({"csv.writer"} if path.name == "predict.py" else set()), path
        assert not [call for call in calls if call.endswith((".to_csv", ".to_excel", ".write_csv"))], path
    template = ROOT / "src" / "gpuday" / "report" / "template"
    for name in ("page.html", "charts.js", "watch.js"):
        assert not any(word in (template / name).read_text() for word in ("download", "text/csv", "createObjectURL"))
