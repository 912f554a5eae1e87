"""Renders `report.html`: one file that needs no other, makes no request, and trusts nothing that the run wrote.

Every text passes Jinja's escaping. Numbers for the charts travel in a block of JSON that no parser of HTML can leave,
and the page's own policy lets only the scripts run whose hashes it names: whatever slipped through could not act.
"""

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from gpuday.core.environment import without_home
from gpuday.core.rundir import RunDir, write_atomic
from gpuday.report import curves, evidence, formats, learning, nested, overview, probes, scores
from gpuday.report.load import RunRecord, load_run
from gpuday.report.overview import Changed

TEMPLATE = Path(__file__).parent / "template"


def write_report(run: Path, changed: Changed | None = None) -> Path:
    """Write the page of a run into its directory, and return its path. Raises DataError for a damaged run."""
    page = render(load_run(run), changed=changed)
    target = RunDir(run).report
    write_atomic(target, page.encode())
    return target


def render(record: RunRecord, *, plotly: str | None = None, changed: Changed | None = None) -> str:
    """The page as text. `plotly` is the chart library's source, by default the one that is installed; `changed` tells what
    a recipe changes of its preset."""
    library = get_plotlyjs() if plotly is None else plotly
    scripts = {"watch": _asset("watch.js"), "library": library, "charts": _asset("charts.js")}
    learned = learning.curves(record)
    view: dict[str, Any] = {
        "name": record.name,
        "state": record.state,
        "state_note": overview.state_note(record),
        "facts": overview.facts(record, changed),
        "verdict": overview.verdict(record),
        "tiles": overview.tiles(record),
        "ledger": overview.ledger(record),
        "axes": curves.axes(record),
        "described": curves.describe(record),
        "looks": record.validations,
        "steps": record.steps_kept,
        "half_life": record.half_life,
        "kinds": curves.kinds(record),
        "suites": scores.suites(record),
        "kinds_of_mean": scores.MEANS,
        "learning": learned,
        "probes": probes.probes(record),
        "heldout": evidence.heldout(record),
        "sources": evidence.sources(record),
        "samples": evidence.samples(record),
        "export": evidence.export(record),
        "compliance": evidence.compliance(record),
        "attempts": record.attempts,
        "redone": evidence.redone(record),
        "notes": record.notes,
        "energy": evidence.energy(record),
        "device_seconds": formats.duration(record.summary.get("device_seconds")),
        "recipe": nested.blocks(record.recipe, title="run"),
        "environments": [nested.blocks(e, title="machine and versions") for e in reversed(record.environments)],
        "fit": nested.blocks(record.fit, title="fitted to the device"),
        "command": evidence.command(record),
        "f": formats,
        "style": Markup(_asset("style.css")),  # noqa: S704 (shipped with the package, like the scripts)
        "scripts": {name: Markup(code) for name, code in scripts.items()},  # noqa: S704
        "policy": policy(scripts),
        "data": embed({**curves.curves(record), "learning": [curve.chart for curve in learned]}),
    }
    return _environment().get_template("page.html").render(view)


def policy(scripts: dict[str, str]) -> str:
    """The page's content security policy: nothing may be loaded, and only these scripts may run."""
    hashes = " ".join(f"'sha256-{_digest(code)}'" for code in scripts.values())
    # plotly sets styles on its elements and saves a chart as a picture through a blob.
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def embed(value: Any) -> Markup:
    """JSON for a script block. What could end the block, or a line of a script, is written as an escape."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704 (no sign that HTML reads is left)


@cache
def _digest(code: str) -> str:
    return base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()


def _asset(name: str) -> str:
    return (TEMPLATE / name).read_text(encoding="utf-8")


def _printable(value: Any) -> Any:
    """Applied to whatever the template prints, before it is escaped. A page is shown around: no home folder is on it."""
    return without_home(formats.clean(value)) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
