"""The page: its numbers, what it does with hostile text, and what it never loads."""

import contextlib
import copy
import dataclasses
import functools
import json
import math
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gpuday.core.errors import DataError
from gpuday.report import formats
from gpuday.report.load import load_run
from gpuday.report.page import embed, policy, render, write_report

HERE = Path(__file__).parent
INJECTIONS: list[str] = json.loads((HERE / "injections.json").read_text())


class Reader(HTMLParser):
    """Tags with their attributes in order, the text outside of scripts and styles, and the data block."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.ends: list[str] = []
        self.text = ""
        self.data = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.ends.append(tag)

    def handle_data(self, data: str) -> None:
        inside = self.tags[-1] if self.tags and (not self.ends or self.ends[-1] != self.tags[-1][0]) else ("", {})
        if inside[0] == "script":
            self.data += data if inside[1].get("type") == "application/json" else ""
        if inside[0] not in ("script", "style"):
            self.text += data


def page_of(run: Path) -> str:
    """The page without the chart library, which is the same in all."""
    return render(load_run(run), plotly="")


def words(page: str) -> str:
    """The page's text, with ordinary single spaces."""
    return re.sub(r"\s+", " ", Reader(page).text.replace("\N{NARROW NO-BREAK SPACE}", " "))


def test_the_report_is_one_file_in_the_run(run: Path) -> None:
    """With the chart library inside, and no other file beside it."""
    before = set(run.iterdir())
    path = write_report(run)
    assert path == run / "report.html"
    assert set(run.iterdir()) - before == {path}
    assert 3_000_000 < path.stat().st_size < 6_000_000
    assert "plotly.js v" in path.read_text()


def test_the_page_holds_the_runs_numbers(run: Path) -> None:
    """Every section's figures, as a reader sees them."""
    text = words(page_of(run))
    for expected in (
        "Held-out loss fell from 9.016 to 4.127 nats per masked token",
        "1,490 steps over 7.86 M tokens",
        "13,370",
        "61.8% of the measured bound",
        "528.50",
        "88.1%",
        "The rows add up to the time used.",
        "lost to a kill",
        "Protocol: P1 (one set of hyperparameters, at most 5 epochs); seeds 0, 1, 2, 3, 4",
        "0.699 to 0.720",
        "majority 0.213, bag_of_words 0.681",
        "2.0130",
        "4.305",
        "Hidden word: projection",
        "41.2%",
        "Exported as ModernBertForMaskedLM; its logits differ from the trained model's by at most 3.1e-06.",
        "every parameter drawn from seed 7",
        "6 of 306 steps were lost to interruptions and redone.",
        "no C++ compiler was found",
        "this machine gives no access to its energy counters",
        "trapezoid",
        "2.13.0+cpu",
        "gpuday run modern --size nano --budget 10m --seed 7 --out runs/modern-nano-10m-5be1a9",
    ):
        assert expected in text, expected


def test_the_charts_data_can_be_read_back(run: Path) -> None:
    """The block of JSON holds the curve."""
    data = json.loads(Reader(page_of(run)).data)
    assert data["heldout"]["nats"][-1] == 4.127
    assert len(data["steps"]["loss"]) == 300


def test_what_has_not_been_run_is_said(new_run: Callable[..., Path]) -> None:
    """A run in progress has a page too."""
    gone = dict.fromkeys(("clock", "train", "model", "heldout", "scores", "samples", "export", "compliance", "command"))
    run = new_run(final=False, summary=gone)
    (run / "environment.json").unlink()
    text = words(page_of(run))
    for expected in (
        "interrupted before its end",
        "The clock has not written its ledger yet.",
        "No downstream task was run.",
        "The final pass over the held-out text has not been run.",
        "No samples were taken.",
        "Not exported yet.",
        "Compliance was not recorded.",
        "The environment was not recorded.",
        "The command was not recorded",
    ):
        assert expected in text, expected


def test_a_run_of_which_only_the_recipe_is_there_has_a_page(tmp_path: Path) -> None:
    """No chart is drawn, nothing raises."""
    (tmp_path / "recipe.json").write_text("{}")
    page = page_of(tmp_path)
    assert "No optimizer step was made yet." in page
    assert 'id="loss-chart"' not in page


def test_a_torn_journal_still_gives_a_page(run: Path) -> None:
    """The last line was cut by a kill."""
    journal = run / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-30])
    assert "modern-nano" in page_of(run)


def test_a_damaged_run_leaves_the_old_report(run: Path) -> None:
    """Nothing half-written takes its place."""
    write_report(run)
    (run / "summary.json").write_text("{")
    with pytest.raises(DataError, match=r"summary\.json"):
        write_report(run)
    assert "Held-out loss fell" in (run / "report.html").read_text()


@pytest.mark.parametrize("evil", INJECTIONS)
def test_hostile_text_is_text(hostile: Callable[[str], Path], evil: str) -> None:
    """In every field of every file: the page has the same elements and attributes as with a harmless word there."""
    pages = [render(dataclasses.replace(load_run(hostile(t)), name=t), plotly="") for t in ("harmless", evil)]
    harmless, tested = (Reader(page) for page in pages)
    assert tested.tags == harmless.tags
    assert tested.ends == harmless.ends
    assert tested.text.count(formats.clean(evil)) >= 40  # shown as it is, no template of theirs filled in
    assert tested.data == harmless.data


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


@pytest.mark.parametrize("name", ["summary", "recipe", "environment"])
def test_any_value_may_be_missing_or_strange(new_run: Callable[..., Path], name: str) -> None:
    """Each one in turn, left out or of every other type: there is a page, or a DataError."""
    path = new_run(steps=4) / f"{name}.json"
    whole = json.loads(path.read_text())
    for place in places(whole):
        for strange in (..., None, "x", -1e300, True, [None], {"a": None}, math.nan):
            changed = copy.deepcopy(whole)
            owner = functools.reduce(lambda value, key: value[key], place[:-1], changed)
            if strange is ...:
                del owner[place[-1]]
            else:
                owner[place[-1]] = strange
            path.write_text(json.dumps(changed))
            with contextlib.suppress(DataError):  # a section of another shape is damage, see test_load
                page_of(path.parent)


def test_what_no_page_can_show_never_reaches_it(hostile: Callable[[str], Path]) -> None:
    """Zero bytes and lone surrogates, in a note or a name, would break the file or its encoding."""
    record = load_run(hostile("a\x00b\ud83d"))
    page = render(dataclasses.replace(record, name="a\x00b\ud83d"), plotly="")
    assert b"\x00" not in page.encode()
    assert "a\ufffdb\ufffd</h1>" in page


def test_the_page_loads_nothing(run: Path) -> None:
    """No element has an address but the page's own sections, and the policy forbids the rest."""
    for tag, attributes in Reader(page_of(run)).tags:
        assert not {"src", "srcset", "action", "formaction", "data", "poster", "background"} & attributes.keys(), tag
        assert not [name for name in attributes if name.startswith("on")], tag
        assert (attributes.get("href") or "#").startswith(("#", "data:,")), attributes
        assert "url(" not in (attributes.get("style") or "")
    assert "http://" not in page_of(run)
    assert "https://" not in page_of(run)


def test_the_policy_lets_nothing_in_but_the_pages_own_scripts(run: Path) -> None:
    """Scripts by hash; no word that would let others run."""
    (content,) = [
        a["content"] for t, a in Reader(page_of(run)).tags if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert content is not None
    assert content.startswith("default-src 'none'; script-src 'sha256-")
    scripts = content.split(";")[1].split()[1:]
    assert len(scripts) == 3
    assert all(s.startswith("'sha256-") for s in scripts)


def test_a_scripts_hash_is_the_one_that_browsers_compute() -> None:
    """Of the empty script, a published value."""
    assert "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='" in policy({"empty": ""})


def test_no_home_folder_is_on_the_page(new_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is shown around: paths of the recipe, the export and the rules begin with a tilde."""
    monkeypatch.setenv("HOME", "/home/somebody")
    run = new_run(
        summary={
            "export": {"kind": "bert", "folder": "/home/somebody/runs/a/model"},
            "compliance": {"raw text": "/home/somebody/books"},
        }
    )
    (run / "recipe.json").write_text(json.dumps({"data": {"corpus": ["/home/somebody/books/a.txt"]}}))
    page = page_of(run)
    assert "somebody" not in page
    assert all(text in page for text in ("~/runs/a/model", "~/books/a.txt", "~/books<"))


def test_embedded_json_cannot_end_its_block() -> None:
    """None of the signs that HTML or an old script parser reads is left, and the value is the same."""
    value = {"</script>": ["<!--", "&amp;", "\u2028\u2029", "]]>"]}
    text = str(embed(value))
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value


def test_the_page_can_be_used_without_eyes(run: Path) -> None:
    """A language, one main heading, captions on all tables, words for the charts, a way past the header."""
    page = Reader(page_of(run))
    tags = [tag for tag, _ in page.tags]
    assert ("html", {"lang": "en"}) in page.tags
    assert tags.count("h1") == 1
    assert tags.count("table") == tags.count("caption")
    assert all(a.get("aria-label") for t, a in page.tags if a.get("role") == "img")
    assert all(a.get("scope") for t, a in page.tags if t == "th")
    assert next(a["href"] for t, a in page.tags if t == "a") == "#summary"
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = [(a["href"] or "")[1:] for t, a in page.tags if t == "a"]
    assert set(targets) <= set(ids)
