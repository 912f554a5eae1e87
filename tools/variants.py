"""A table of every variant, each one change to a preset: `python tools/variants.py [--only WHAT] [--no-speed]`.

For each: tokens a second beside the unchanged preset, parameters, training FLOPs, whether a resume is exact, and whether it
exports. A row is appended to --out as soon as it is known, and not made again by the same command on the same code; with
--no-speed a row keeps the speed that was measured before, and the revision of that. The table is written from the rows. Exit code
1 where a variant is broken: its row says how.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from measure import alternate, rounded  # noqa: E402
from variant_rows import KEYS, Variant, variants  # noqa: E402
from workload import (  # noqa: E402
    SPECIALS,
    Workload,
    build_learner,
    compute_dtype,
    random_store,
    vocabulary,
    workload,
)

from gpuday.core import config  # noqa: E402
from gpuday.core.clock import Budget, Clock  # noqa: E402
from gpuday.core.environment import source_revision  # noqa: E402
from gpuday.export.hf import choose, why_headless  # noqa: E402
from gpuday.models.flops import parameters  # noqa: E402
from gpuday.recipe import Recipe  # noqa: E402
from gpuday.train import checkpoint  # noqa: E402
from gpuday.train.assemble import make_learner  # noqa: E402
from gpuday.train.batches import Batches  # noqa: E402
from gpuday.train.device import compile_fault, describe, pick_device, synchronise  # noqa: E402
from gpuday.train.fit import Fit  # noqa: E402
from gpuday.train.parallel import Ranks  # noqa: E402
from gpuday.train.progress import Progress  # noqa: E402
from gpuday.train.saved_folder import read  # noqa: E402
from gpuday.train.stepping import Stepping  # noqa: E402
from gpuday.train.useful import flops_per_token  # noqa: E402
from gpuday.train.weights import Weights  # noqa: E402

BUDGET = "10m"  # for which the preset's recipe is taken
TIMED_AT = 0.45  # of the budget the timed steps begin: batches are full, rates at their peak or falling
TIMED_EVERY = 0.0005  # of the budget from one timed step to the next
TOY = {"head_width": 16, "width": 32, "length": 32, "vocab": 128, "rows": 8, "least_tokens": 1, "microbatch": 4}
TOY_STEPS = 6
GRAPHS = 16  # variants between two resets of the compiler, which by default keeps 8 graphs of one piece of code
Row = dict[str, Any]


class Training:
    """Steps of a recipe as training makes them, averages included, over random rows."""

    def __init__(self, work: Workload, folder: Path, *, compiled: bool) -> None:
        device, self.work = pick_device(), work
        self.learner = build_learner(work, device, compiled=compiled)
        of = work.recipe.optimizer, work.recipe.average
        self.weights = Weights(self.learner, *of, dtype=compute_dtype(device), seed=work.recipe.seed)
        store = random_store(folder, rows=max(4 * work.rows, 256), length=work.length, vocab=work.vocab)
        every_other = tuple(range(SPECIALS, work.vocab, 2))  # goes on with the word before it, as pieces do
        words, recipe = replace(vocabulary(work.vocab), continues=every_other), work.recipe
        self.batches = Batches(
            store, recipe.data.order, recipe.objective, words, seed=0, expected_rows=len(store), device=device
        )
        self.progress, self._device = Progress(microbatch=work.microbatch), device
        self._steps = Stepping(
            recipe,
            _fit(work, compiled=compiled),
            self.weights,
            self.batches,
            vocab=work.vocab,
            device=device,
            ranks=Ranks(),
            clock=Clock(Budget.parse(f"{10**9}steps")),
            interruptible=nullcontext,
            progress=self.progress,
        )
        self.losses: list[float] = []

    def step(self, fraction: float) -> None:
        """The next one, at this fraction of the budget, the device waited for. Raises RuntimeError for a bad number."""
        made = self._steps.make(self.progress, fraction, halve=_no_room)
        synchronise(self._device)
        if made.outcome.skipped:
            raise RuntimeError(f"step {made.progress.step}: {made.outcome.reason}")
        self.progress = made.progress
        self.losses.append(made.outcome.loss)

    def timed(self) -> None:
        """The next one of those that are timed."""
        self.step(TIMED_AT + TIMED_EVERY * self.progress.step)


def _no_room() -> Progress:
    raise MemoryError("a micro-batch does not fit the memory")


def _fit(work: Workload, *, compiled: bool) -> Fit:
    device = pick_device()
    return Fit(
        device=describe(device),
        dtype=str(compute_dtype(device)).removeprefix("torch."),
        microbatch=work.microbatch,
        compiled=compiled,
        rows=work.rows,
        expected_tokens=float(work.rows * work.length),
        heldout_rows=1,
        tokens_per_second=1.0,
        bound_flops_per_second=1.0,
    )


@contextmanager
def training(work: Workload, *, compiled: bool) -> Iterator[Training]:
    """A `Training` in a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="gpuday-variants-"))
    try:
        made = Training(work, folder / "train.tok", compiled=compiled)
        try:
            yield made
        finally:
            made.batches.close()
    finally:
        shutil.rmtree(folder)


def toy(recipe: Recipe) -> Workload:
    """The recipe so small that a step takes milliseconds: every head, width, row and batch of TOY's size."""

    def small(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: small(inner, name) for name, inner in value.items()}
        return TOY.get(key, value)

    made = config.from_dict(Recipe, small(config.to_dict(recipe)))
    rows, microbatch = TOY["rows"], TOY["microbatch"]
    kind = made.objective.kinds[0]
    return Workload(name="toy", recipe=made, vocab=TOY["vocab"], microbatch=microbatch, rows=rows, kind=kind)


def resumes(recipe: Recipe) -> bool:
    """Whether three steps, a checkpoint and three more in new objects equal six, at toy size: losses, weights, the state of
    optimizer and average, and what is kept at the end, to the bit."""
    work, half = toy(recipe), TOY_STEPS // 2
    fractions = [step / TOY_STEPS for step in range(TOY_STEPS)]
    with training(work, compiled=False) as straight:
        for fraction in fractions:
            straight.step(fraction)
        wanted, kept = straight.weights.tensors(), straight.weights.final_tensors()
        losses = straight.losses
    with training(work, compiled=False) as first, tempfile.TemporaryDirectory() as folder:
        for fraction in fractions[:half]:
            first.step(fraction)
        model, optimizer = first.weights.tensors()
        state = {"progress": asdict(first.progress)}
        saved = read(checkpoint.save(Path(folder), half, model=model, optimizer=optimizer, state=state))
    with training(work, compiled=False) as second:
        second.weights.restore(saved)
        second.progress = Progress(**saved.state["progress"])
        for fraction in fractions[half:]:
            second.step(fraction)
        found, ended = second.weights.tensors(), second.weights.final_tensors()
    same = [_equal(a, b) for a, b in zip((*wanted, *kept), (*found, *ended), strict=True)]
    return all(same) and losses == first.losses + second.losses


def _equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def figures(work: Workload) -> Row:
    """What formulas and the exporter say of a variant at its real size; nothing is trained."""
    with torch.device("meta"):
        learner = make_learner(work.recipe, vocab=work.vocab)
    headless = why_headless(learner.model, learner.predictor)
    native, obstacles = choose(learner.model.config, head=not headless)
    least = min(obstacles.values(), key=len, default=[])
    return {
        "parameters": parameters(work.recipe.model, vocab=work.vocab, length=work.length),
        "trained_parameters": sum(p.numel() for p in learner.parameters()),
        "training_flops_per_token": rounded(flops_per_token(work.recipe, vocab=work.vocab)),
        "exports": f"{native.kind}{', the encoder alone' if headless else ''}" if native else None,
        "reason": "" if native else ", ".join(obstacle.partition(": ")[0] for obstacle in least),
    }


def speed(preset: Workload, changed: Workload, *, rounds: int, compiled: bool, cpu_time: bool = False) -> Row:
    """Tokens a second of both, step by step in turn, and the ratio of the medians."""
    now = time.process_time if cpu_time else time.perf_counter
    with training(preset, compiled=compiled) as a, training(changed, compiled=compiled) as b:
        seconds = alternate({"preset": a.timed, "variant": b.timed}, rounds=rounds, warm_up=2, now=now)
        before, after = seconds["preset"].rate(preset.rows * preset.length), seconds["variant"]
    rate = after.rate(changed.rows * changed.length)
    return {
        "relative": rounded(rate.median / before.median),
        "tokens_per_second": rounded(rate.median),
        "low": rounded(rate.low),
        "high": rounded(rate.high),
        "preset_tokens_per_second": rounded(before.median),
        "rounds": rounds,
        "compiled": compiled,
        "clock": "cpu" if cpu_time else "wall",
    }


def examine(variant: Variant, preset: Workload, *, rounds: int, compiled: bool, cpu_time: bool = False) -> Row:
    """The whole row of a variant; no speed with 0 rounds, nor where it is the preset itself. Whatever goes wrong is the
    variant's `error`."""
    row: Row = {"key": variant.key, "group": variant.group, "name": variant.name, "changes": variant.changes}
    row |= {"companions": variant.companions, "source": variant.source, "own": False, "speed": None, "error": ""}
    try:
        recipe = variant.of(preset.recipe)
        row["own"] = recipe == preset.recipe
        work = replace(preset, recipe=recipe, kind=recipe.objective.kinds[0])
        row |= figures(work)
        row["resumes"] = resumes(recipe)
        if not row["resumes"]:
            row["error"] = "a resumed run differs from one that was never stopped"
        if rounds and not row["own"]:
            row["speed"] = speed(preset, work, rounds=rounds, compiled=compiled, cpu_time=cpu_time)
    except Exception as error:  # noqa: BLE001 - it is told, and ends the command with 1
        row["error"] = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    return row


def known(out: Path) -> dict[str, Row]:
    """The last row of each variant that the file holds."""
    lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    return {row["key"]: row for row in map(json.loads, lines)}


def survey(
    wanted: list[Variant], preset: Workload, out: Path, *, rounds: int, compiled: bool, cpu_time: bool = False
) -> None:
    """Make the rows that are not there yet for this preset and this code, appending each."""
    out.parent.mkdir(parents=True, exist_ok=True)
    here = {"preset": preset.recipe.preset, "size": preset.recipe.size, "revision": source_revision()}
    here["device"] = describe(pick_device())
    done = known(out)
    for number, variant in enumerate(wanted, 1):
        row = done.get(variant.key, {})
        earlier = row.get("speed") or {}
        timed = not rounds or row.get("own") or earlier.get("revision") == here["revision"]
        if timed and not row.get("error", "none") and here.items() <= row.items():
            continue
        if number % GRAPHS == 0:
            torch.compiler.reset()  # what it keeps is searched in every step; the preset's own is compiled anew
        same = all(row.get(key) == here[key] for key in ("preset", "size", "device"))
        row = {**examine(variant, preset, rounds=rounds, compiled=compiled, cpu_time=cpu_time), **here}
        if row["speed"]:
            row["speed"]["revision"] = here["revision"]
        elif earlier and same and not rounds and not row["own"]:
            row["speed"] = earlier
        with open(out, "a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
        told = row["error"] or (f"{row['speed']['relative']:.2f} x" if row["speed"] else "ok")
        print(f"{number:>4}/{len(wanted)}  {variant.key}: {told}", flush=True)


def page(rows: dict[str, Row], every: list[Variant]) -> str:
    """The table as Markdown, a section for each kind; a variant without a row stands there as not measured."""
    there = [rows[v.key] for v in every if v.key in rows]
    by = {name: ", ".join(sorted({row[name] for row in there})) for name in ("preset", "size", "device", "revision")}
    timed = sorted({row["speed"].get("revision", row["revision"]) for row in there if row["speed"]})
    by["timed"] = (
        f"; speeds: {', '.join(timed)}" if timed and timed != sorted({row["revision"] for row in there}) else ""
    )
    compiled = {row["speed"]["compiled"] for row in there if row["speed"]}
    how = {(): "not timed", (True,): "compiled", (False,): "eager"}.get(tuple(compiled), "compiled or eager")
    if "cpu" in {row["speed"]["clock"] for row in there if row["speed"]}:
        how += ", in seconds of the processor on one thread"
    text = [
        "# Every variant",
        "",
        "Made by `make variants`; change the code, not this page. Each row is one change to a preset.",
        "",
        f"Preset `{by['preset']}` at size `{by['size']}`, for a budget of {BUDGET}; steps {how}; device: {by['device']}; source: {by['revision']}{by['timed']}.",
        "",
        "- *speed*: tokens a second over those of the unchanged preset, as that was then, whole optimizer steps in turn in one process, medians; one",
        "  reading at one size, which says what a variant costs and not whether it learns more. What an optimizer does every n-th step",
        "  alone (Shampoo, SOAP, Sophia) may fall between the few that are timed.",
        "- *parameters*: of the model; in brackets all that is trained, where that is more.",
        "- *FLOPs*: useful ones of training on one token, forward and backward, by formula; what an optimizer computes is not in it.",
        "- *resumes*: three steps, a checkpoint and three more equal six, to the bit, at toy size.",
        "- *exports*: the class of Transformers that holds it exactly, or what the nearest one has no place for.",
    ]
    for group in dict.fromkeys(v.group for v in every):
        text += ["", f"## {group}", ""]
        if group in KEYS:
            text += [f"At `{KEYS[group]}`.", ""]
        text += [
            "| variant | speed | parameters | FLOPs | resumes | exports | source |",
            "|---|---|---|---|---|---|---|",
        ]
        text += [_line(v, rows.get(v.key)) for v in every if v.group == group]
    return "\n".join([*text, ""])


def _line(variant: Variant, row: Row | None) -> str:
    shown = f"`{variant.name}`"
    if variant.companions:
        shown += " with " + ", ".join(f"`{path}={_short(variant.changes[path])}`" for path in variant.companions)
    beside = f"as `{variant.name.split()[0]}`" if variant.group in KEYS else ""
    source = ", ".join(variant.source) or beside
    if row is None:
        return f"| {shown} | not measured | | | | | {source} |"
    if "resumes" not in row:
        return f"| {shown} | broken: {row['error'].replace('|', '/')} | | | | | {source} |"
    cost = "the preset's own" if row["own"] else f"{row['speed']['relative']:.2f}" if row["speed"] else "not measured"
    cost = f"broken: {row['error'].replace('|', '/')}" if row["error"] else cost
    count = f"{row['parameters'] / 1e6:.2f} M"
    if row["trained_parameters"] != row["parameters"]:
        count += f" ({row['trained_parameters'] / 1e6:.2f} M)"
    flops = f"{row['training_flops_per_token'] / 1e6:.1f} M"
    exact = "yes" if row["resumes"] else "**no**"
    exports = row["exports"] or f"no: {row['reason'].replace('|', '/')}"
    return f"| {shown} | {cost} | {count} | {flops} | {exact} | {exports} | {source} |"


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def main() -> int:
    """The command line; the exit code."""
    every = variants()
    groups = list(dict.fromkeys(v.group for v in every))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="modern", help="what is changed [modern]")
    parser.add_argument("--size", default="nano", help="its size [nano]")
    parser.add_argument(
        "--only",
        action="append",
        choices=[*groups, *(v.key for v in every)],
        metavar="WHAT",
        help="a kind, or one variant such as 'axis tied=true'; repeat it for more [all]",
    )
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each [5]")
    parser.add_argument("--no-speed", action="store_true", help="time nothing")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="count the processor's time, not the wall's: for a busy machine, with OMP_NUM_THREADS=1",
    )
    parser.add_argument(
        "--eager", action="store_true", help="compile nothing, which a machine without a compiler never does"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/variants.jsonl"), help="a line for each row")
    parser.add_argument(
        "--table", type=Path, default=ROOT / "docs" / "variants.md", help="the table [docs/variants.md]"
    )
    given = parser.parse_args()
    torch._dynamo.config.recompile_limit = 4 * GRAPHS  # noqa: SLF001 - no public name
    preset = workload(given.size, preset=given.preset, budget=BUDGET)
    rounds = 0 if given.no_speed else given.rounds
    compiled = bool(rounds) and not given.eager and not compile_fault(pick_device())
    wanted = [v for v in every if not given.only or {v.group, v.key} & {*given.only}]
    survey(wanted, preset, given.out, rounds=rounds, compiled=compiled, cpu_time=given.cpu_time)
    rows = known(given.out)
    given.table.write_text(page(rows, every), encoding="utf-8")
    broken = [v.key for v in wanted if rows[v.key]["error"]]
    print(f"{len(wanted)} variants, {len(broken)} broken{': ' if broken else ''}{'; '.join(broken)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
