"""The report in a real browser: it draws, asks the network for nothing, complains of nothing, and runs no text.

Requests, console messages, exceptions and dialogs are counted by the browser itself, over its debugging protocol, and
again by the page (`data-requests` and `data-errors` on <html>).
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuday.report import formats
from gpuday.report.load import load_run
from gpuday.report.page import render, write_report

# As many calls as the page makes of the library, which takes most of the time to load.
STAND_IN = "window.Plotly = { react: () => {} };"


@pytest.fixture
def page(tmp_path: Path, browser: Any, write_run: Callable[..., Path]) -> Path:
    """The report of a finished run, open in a window of a laptop's size."""
    path = write_report(write_run(tmp_path / "modern-nano-10m"))
    browser.resize(1280, 900)
    browser.open(path)
    return path


def quiet(browser: Any) -> None:
    """Nothing was asked for, nothing complained of, by the browser's own count and by the page's."""
    assert browser.requests() == []
    assert browser.complaints() == []
    counted = browser.evaluate("[document.documentElement.dataset.errors, document.documentElement.dataset.requests]")
    assert counted == ["0", "0"]


def shown_axes(browser: Any) -> list[str]:
    """Titles of the x axes of the charts of steps, as they stand on the screen."""
    both = "#loss-chart .xtitle, #schedule-chart .xtitle"
    titles: list[str] = browser.evaluate(f"[...document.querySelectorAll('{both}')].map(t => t.textContent)")
    return titles


@pytest.mark.usefixtures("page")
def test_the_page_makes_no_request_and_no_complaint(browser: Any) -> None:
    """One file, no network, an empty console."""
    quiet(browser)


def test_the_browser_would_have_noticed(browser: Any, tmp_path: Path) -> None:
    """The witness itself: an image, an error, a console message and a dialog are all reported."""
    path = tmp_path / "loud.html"
    path.write_text("<img src='missing.png'><script>console.log('x'); alert(1); undefinedName()</script>")
    browser.open(path)
    assert [url.rpartition("/")[2] for url in browser.requests()] == ["missing.png"]
    text = " ".join(browser.complaints())
    assert all(kind in text for kind in ("consoleAPICalled", "exceptionThrown", "javascriptDialogOpening"))


def test_the_policy_stops_what_would_get_through(browser: Any, page: Path) -> None:
    """Behind the escaping stands the policy: a script and a handler put into the page by force do not run."""
    forced = page.with_name("forced.html")
    evil = "<script>window.hacked=1</script><img src='http://example.invalid/x.png' onerror='window.hacked=1'>"
    forced.write_text(page.read_text().replace("<main>", f"<main>{evil}"))
    browser.open(forced)
    assert browser.evaluate("typeof window.hacked") == "undefined"
    assert int(browser.evaluate("document.documentElement.dataset.errors")) >= 2


@pytest.mark.usefixtures("page")
def test_the_curves_are_drawn(browser: Any) -> None:
    """The loss with its two lines and two kinds of held-out points, the schedule with three panels, in the height given to them."""
    assert browser.evaluate("document.querySelectorAll('#loss-chart .scatterlayer .trace').length") == 4
    assert browser.evaluate("document.querySelectorAll('#schedule-chart .scatterlayer .trace').length") == 3
    assert browser.evaluate("document.querySelector('#loss-chart .main-svg').getBoundingClientRect().height") > 300
    assert browser.evaluate("document.querySelectorAll('#loss-chart .points path').length") == 11


@pytest.mark.usefixtures("page")
def test_the_learning_curve_of_a_task_is_drawn(browser: Any) -> None:
    """Two medians in a line, the interval of the one that has one, and five seeds beside them."""
    inside = "document.querySelectorAll('.learning-chart {}').length"
    assert browser.evaluate(inside.format(".scatterlayer .trace")) == 2
    assert browser.evaluate(inside.format(".points path")) == 5 + 2
    assert browser.evaluate(inside.format(".errorbars path.yerror")) == 2
    assert browser.evaluate("document.querySelector('.learning-chart .main-svg').getBoundingClientRect().height") > 200


@pytest.mark.usefixtures("page")
def test_the_reader_chooses_the_axis(browser: Any) -> None:
    """Time at first; tokens, FLOPs and steps at a click, in both charts."""
    assert shown_axes(browser) == ["minutes on the clock"] * 2
    for key, title in (
        ("tokens", "tokens read"),
        ("flops", "useful floating-point operations"),
        ("step", "optimizer steps"),
    ):
        browser.evaluate(f"document.querySelector('input[value={key}]').click()")
        assert shown_axes(browser) == [title] * 2
    quiet(browser)


@pytest.mark.usefixtures("page")
@pytest.mark.parametrize("width", [320, 390, 768, 1280, 2560])
def test_the_page_fits_the_window(browser: Any, width: int) -> None:
    """From a small telephone to a wide screen nothing is pushed out sideways."""
    browser.resize(width, 900)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    quiet(browser)


def test_a_word_without_end_fits_too(
    browser: Any, tmp_path: Path, write_hostile_run: Callable[[Path, str], Path]
) -> None:
    """Names and paths break where they must on a telephone."""
    browser.resize(390, 900)
    browser.open(write_report(write_hostile_run(tmp_path / "run", "x" * 200)))
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.usefixtures("page")
@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_its_ground(browser: Any, dark: bool) -> None:
    """At least 4.5 to 1 in both colour schemes, the ratio that WCAG 2.2 asks of body text."""
    browser.resize(1280, 900, dark=dark)
    for name in ("ink", "faint", "accent", "good"):
        for ground in ("page", "panel"):
            assert contrast(colour(browser, name), colour(browser, ground)) >= 4.5, (name, ground)
    assert contrast(colour(browser, "warn-ink"), colour(browser, "warn-back")) >= 4.5


@pytest.mark.usefixtures("page")
def test_the_charts_follow_the_colour_scheme(browser: Any) -> None:
    """The labels are drawn anew when the scheme changes while the page is open."""
    fill = "getComputedStyle(document.querySelector('#loss-chart .xtitle')).fill"
    browser.resize(1280, 900, dark=False)
    light = browser.evaluate(fill)
    browser.resize(1280, 900, dark=True)
    assert browser.evaluate(fill) != light
    quiet(browser)


@pytest.mark.usefixtures("page")
def test_a_dark_page_is_printed_light(browser: Any) -> None:
    """The charts' labels take the light scheme's ink for the paper, and the screen's again after it."""
    fill = "getComputedStyle(document.querySelector('#loss-chart .xtitle')).fill"
    browser.resize(1280, 900, dark=False)
    light = browser.evaluate(fill)
    browser.resize(1280, 900, dark=True)
    dark = browser.evaluate(fill)
    browser.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert browser.evaluate(fill) == light
    browser.evaluate("dispatchEvent(new Event('afterprint'))")
    assert browser.evaluate(fill) == dark
    quiet(browser)


@pytest.mark.usefixtures("page")
def test_the_page_can_be_printed(browser: Any) -> None:
    """As a PDF of a few sheets, without a complaint."""
    pdf = browser.call("Page.printToPDF", printBackground=False)["data"]
    assert len(pdf) > 20_000
    quiet(browser)


def test_no_text_of_a_run_is_executed(
    browser: Any, tmp_path: Path, injections: list[str], write_hostile_run: Callable[[Path, str], Path]
) -> None:
    """Every string in every field: nothing runs, loads, opens or is logged, and it stands there as text."""
    assert len(injections) >= 50
    for number, evil in enumerate(injections):
        record = dataclasses.replace(load_run(write_hostile_run(tmp_path / f"run{number}", evil)), name=evil)
        path = tmp_path / f"page{number}.html"
        path.write_text(render(record, plotly=STAND_IN))
        browser.open(path)
        quiet(browser)
        assert browser.evaluate("typeof window.hacked") == "undefined", evil
        assert browser.evaluate("document.scripts.length") == 4, evil
        expected = formats.clean(evil).strip()
        assert browser.evaluate("document.querySelector('h1').textContent").strip() == expected


def test_all_hostile_texts_at_once_leave_the_charts_alone(
    browser: Any, tmp_path: Path, injections: list[str], write_hostile_run: Callable[[Path, str], Path]
) -> None:
    """With the real chart library, one text after another in each field."""
    run = write_hostile_run(tmp_path / "run", " ".join(injections))
    browser.open(write_report(run))
    quiet(browser)
    assert browser.evaluate("typeof window.hacked") == "undefined"
    assert browser.evaluate("document.querySelectorAll('#loss-chart .scatterlayer .trace').length") == 4


def test_a_run_in_progress_opens_too(browser: Any, tmp_path: Path, write_run: Callable[..., Path]) -> None:
    """Only a recipe, then two steps: no chart or a small one, never an error."""
    run = write_run(tmp_path / "run", steps=2, final=False, summary={"clock": None, "scores": None, "heldout": None})
    browser.open(write_report(run))
    quiet(browser)
    (run / "journal.jsonl").unlink()
    browser.open(write_report(run))
    quiet(browser)


def colour(browser: Any, name: str) -> tuple[float, ...]:
    """Red, green and blue of a colour of the style sheet, in [0, 1]."""
    code = browser.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()")
    return tuple(int(code[i : i + 2], 16) / 255 for i in (1, 3, 5))


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """WCAG 2.2's contrast ratio: (lighter + 0.05) / (darker + 0.05) of relative luminance."""

    def luminance(rgb: tuple[float, ...]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)
