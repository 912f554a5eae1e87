"""The rooms after evaluation, one by one: export, report; and the commands that only look."""

from dataclasses import asdict
from pathlib import Path

from gpuday import presets
from gpuday.cli import listing
from gpuday.cli.changed import changed
from gpuday.cli.flags import All, Flags, Output
from gpuday.cli.resolve import know_parts, resolve_recipe
from gpuday.cli.screen import Screen
from gpuday.core import config, parts
from gpuday.core.absent import why_absent
from gpuday.core.errors import DataError, FitError, UsageError, nearest
from gpuday.core.explained import slots, summary
from gpuday.core.rundir import RunDir
from gpuday.export.card import auto_of, literal
from gpuday.export.hf import export
from gpuday.presets.sizes import SIZES
from gpuday.recipe import KINDS, Recipe
from gpuday.report.page import write_report
from gpuday.report.tables import show_run

NAMED = ("parts", "axes", "presets", "sizes", "tasks", "protocols", "runs")  # what is listed beside kinds and places


def export_command(run: Path, *, output: Output = Output()) -> None:  # noqa: B008
    """Write a trained run as a Hugging Face folder, with its parity checked."""
    with Screen(as_json=output.json) as screen, existing(run, output, screen).lock():
        if why := _export(RunDir(run), screen):
            raise FitError(f"nothing was exported: {why}", where=str(run), fix=_use(RunDir(run)))


def report_command(run: Path, *, output: Output = Output()) -> None:  # noqa: B008
    """Write a run's report.html."""
    with Screen(as_json=output.json) as screen:
        report_room(existing(run, output, screen), screen)


def list_command(
    what: str = "runs",
    name: str | None = None,
    *,
    all_: All = False,
    output: Output = Output(),  # noqa: B008
) -> None:
    """Runs in a folder; or, given a kind of part or a place in the recipe where one stands, the parts, with the knobs of the
    one that is named or of `all_`; `parts` of all kinds, `axes` of a model, `presets`, `sizes`, `tasks`, `protocols`."""
    with Screen(as_json=output.json) as screen:
        know_parts(output.part, screen)
        is_kind = what in KINDS or what in listing.places()
        if (name is not None or all_) and not is_kind:
            given = name if name is not None else "--all"
            fix = listing.meant(name or "") or f"leave {given} out, or name a kind of part, such as optimizer"
            raise UsageError(f"{given} beside {what}, which is no kind of part", where="list", fix=fix)
        if what == "presets":
            screen.table("presets", [{"preset": n, "what": summary(presets.find(n))} for n in presets.names()])
        elif what == "sizes":
            screen.table("sizes", [{"size": name, **asdict(size)} for name, size in SIZES.items()])
        elif what in ("tasks", "protocols"):
            screen.table(what, getattr(listing, what)())
        elif what == "parts":
            screen.table("parts", listing.overview())
        elif what == "axes":
            title = f"axes of the model, and the presets that have others at size {listing.SHOWN_SIZE}"
            screen.table(title, listing.axes(brief=not screen.as_json))
        elif is_kind and (screen.as_json or all_ or name is not None):
            screen.table(_parts_title(what), listing.parts_of(what, name, brief=not screen.as_json))
        elif is_kind:
            screen.table(_parts_title(what), listing.choices_of(what))
            example = next(iter(parts.names(KINDS[listing.kind_of(what)])))
            screen.tell("knobs", message=f"gpuday list {what} {example} shows those of one, --all of each")
        elif Path(what).is_dir():
            runs = listing.runs(Path(what))
            title, brief = listing.in_brief(runs)
            screen.table(title, runs if screen.as_json else brief)
            if not runs:
                screen.tell("nothing", message=f"no runs in {what}")
        elif what == "runs":
            screen.table("runs", [])
            if not screen.as_json:
                screen.tell("nothing", message="no folder of runs here: gpuday run makes runs/")
        else:
            known = list(dict.fromkeys([*KINDS, *listing.places(), *NAMED]))
            fix = listing.meant(what) or nearest(what, known)
            fix = why_absent(what) if "/" in what and not Path(what).exists() else fix
            raise UsageError(f"{what!r} is neither a folder nor a kind", where="list", fix=fix)


def show_command(what: str, *, flags: Flags = Flags()) -> None:  # noqa: B008
    """The recipe of a preset or TOML file with the flags applied, or the record of a run."""
    with Screen(as_json=flags.json) as screen:
        if "/" in what and not Path(what).exists():
            fix = f"{why_absent(what)}; a preset's name, a TOML file or a run's folder is shown"
            raise DataError(f"{what} is not there", where="WHAT", fix=fix)
        record = show_run(Path(what)) if Path(what).is_dir() else config.to_dict(resolve_recipe(what, flags, screen))
        screen.document(record)


def existing(run: Path, output: Output, screen: Screen) -> RunDir:
    """A run directory that is there, with the user's own parts known; no folder is made for a misspelt name."""
    know_parts(output.part, screen)
    if not RunDir(run).recipe.exists():
        raise DataError(f"{run} is not a run directory", where="RUN", fix=_run_meant(run))
    return RunDir(run)


def _run_meant(run: Path) -> str:
    """Where the run that was meant may be: below this folder, in runs/, or beside it under a name that is near."""
    if run.is_dir() and (inside := sorted(p for p in run.iterdir() if RunDir(p).recipe.exists())):
        return f"it holds runs: give one, such as {inside[0]}"
    if RunDir("runs" / run).recipe.exists():
        return f"write {'runs' / run}"
    plain = "give the folder of a run; see gpuday list runs"
    return plain if run.exists() else f"{why_absent(str(run))}; {plain}"


def export_room(run: RunDir, screen: Screen) -> None:
    """Export and add the parity to the summary; where nothing could be written, say how the model can be used: the run is
    none the worse for it."""
    if _export(run, screen):
        screen.tell("notice", message=f"no class of Transformers holds the model; {_use(run)}")


def _export(run: RunDir, screen: Screen) -> str:
    """Why nothing was written; empty where a folder was."""
    section = export(run.root)
    run.update_summary(export=section)
    reason, folder = str(section["reason"]), section["folder"]
    python = "" if folder is None else f"transformers.{auto_of(section)}.from_pretrained({literal(folder)})"
    screen.tell(
        "export",
        kind=section["kind"],
        folder=folder,
        parity_max_abs=section["parity_max_abs"],
        python=python,
        reason=reason,
    )
    return reason if folder is None else ""


def _use(run: RunDir) -> str:
    return (
        f"it is used from the run's folder: gpuday evaluate {run.root} scores it, and "
        f'gpuday.train.trained.load_trained(Path("{run.root}")).model is the model in Python'
    )


def report_room(run: RunDir, screen: Screen) -> None:
    """Write the page."""
    screen.tell("report", file=str(write_report(run.root, changed)))


def _parts_title(what: str) -> str:
    """What the parts are, and all places where they may stand."""
    kind = listing.kind_of(what)
    where = [key for key, found, _ in slots(Recipe) if found is KINDS[kind]]
    return f"{kind}, at {', '.join(where)}" if where else kind
