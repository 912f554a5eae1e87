"""The sections of summary.json that training knows: clock, train, model, held-out loss, compliance with the rules."""

import statistics
from typing import Any

import torch

from gpuday.core import config
from gpuday.core.clock import Clock
from gpuday.core.journal import Rollback, Start, Step, attempts, read, surviving
from gpuday.core.parts import name_of
from gpuday.core.rundir import RunDir
from gpuday.data.prepared import PreparedData
from gpuday.recipe import Recipe
from gpuday.train.assemble import make_model
from gpuday.train.device import EnergyMeter
from gpuday.train.fit import Fit
from gpuday.train.progress import Progress
from gpuday.train.useful import flops_per_token


def sections(
    recipe: Recipe, data: PreparedData, run: RunDir, fit: Fit, progress: Progress, clock: Clock, energy: EnergyMeter
) -> dict[str, Any]:
    """Everything about a finished training as JSON values, keys as in docs/decisions.md.

    What only the journal knows is None where it has lost rows.
    """
    kept = surviving(run.journal)
    steps = [row for row in kept if isinstance(row, Step)]
    rows = [row for _, row in read(run.journal)]
    starts = [row for row in rows if isinstance(row, Start)]
    whole = bool(starts) and len(steps) == progress.step
    processed = sum(row.rows for row in rows if isinstance(row, Step)) * recipe.data.length
    steady = [row.rows * recipe.data.length / row.step_seconds for row in steps if not row.compiled_anew]
    useful, shares = _useful(kept), [u / fit.bound_flops_per_second for u in _useful(kept, per_rank=True)]
    waited = sum(row.waited_seconds for row in steps)
    used = clock.used_seconds()
    final, before = progress.final or {}, progress.before or {}
    joules, energy_reason = _energy(energy, starts, inherited=clock.inherited)
    ranks = starts[-1].ranks if starts else None
    return {
        "preset": recipe.preset,
        "recipe_fingerprint": config.fingerprint(recipe),
        "seed": recipe.seed,
        "resumes": len(starts) - 1 if whole else None,
        "attempts": attempts(run.journal) if whole else None,
        "device": fit.device,
        "device_seconds": device_seconds(starts, used) if whole else None,
        "energy_joules": joules,
        "energy_reason": energy_reason,
        "clock": {
            "budget": config.to_dict(recipe.budget),
            "budget_seconds": recipe.budget.seconds,
            "used_seconds": used,
            "ledger": clock.ledger(),
        },
        "train": {
            "tokens": progress.tokens,
            "tokens_processed": processed if whole else None,
            "steps": progress.step,
            "skipped_updates": sum(row.skipped for row in steps) if whole else None,
            "rollbacks": sum(isinstance(row, Rollback) for row in rows) if whole else None,
            "epochs": progress.position / len(data.train),
            "tokens_per_second": statistics.median(steady) if steady else None,
            "tokens_per_second_overall": progress.tokens / used,
            "flops": progress.flops,
            "useful_flops_per_second": statistics.median(useful) if useful else None,
            "bound_flops_per_second": fit.bound_flops_per_second,
            "bound_share": statistics.median(shares) if shares else None,
            "data_wait_share": waited / sum(row.step_seconds for row in steps) if steps else None,
            "ranks": ranks,
            "microbatch": progress.microbatch,
            "rows_per_step": fit.rows,
            "dtype": fit.dtype,
            "compiled": fit.compiled,
            "compilations": progress.compilations,
            "compile_cache": compile_cache(),
        },
        "model": _model(recipe, data),
        "heldout": {
            "nats_per_token": final.get("nats_per_token"),
            "notes": list(recipe.objective.notes()),
            "before": before.get("nats_per_token"),
            "before_rows": before.get("rows"),
            "rows": final.get("rows"),
            "masked": final.get("masked"),
            "by_source": final.get("by_source"),
            "word_bits_per_byte": None,
        },
        "samples": [],
        "scores": {},
        "export": {"kind": None, "parity_max_abs": None, "reason": "not exported yet"},
        "compliance": compliance(recipe, data, clock, ranks=ranks, whole=whole),
    }


def device_seconds(starts: list[Start], used: float) -> float:
    """Seconds of the clock times the ranks that ran, each attempt's until the next one began."""
    ends = [*(row.used_seconds for row in starts[1:]), used]
    begins = [0.0, *ends[:-1]]
    return sum((end - begin) * row.ranks for begin, end, row in zip(begins, ends, starts, strict=True))


def _useful(kept: list[Any], *, per_rank: bool = False) -> list[float]:
    """Useful FLOP/s of each step but the first that compiled nothing, of all ranks or of one."""
    speeds, ranks, before = [], 1, None
    for row in kept:
        if isinstance(row, Start):
            ranks = row.ranks
        elif isinstance(row, Step):
            if before is not None and not row.compiled_anew:
                speeds.append((row.flops - before.flops) / row.step_seconds / (ranks if per_rank else 1))
            before = row
    return speeds


def _energy(energy: EnergyMeter, starts: list[Start], *, inherited: bool) -> tuple[float | None, str]:
    """Joules, or None and why. `inherited`: the clock has time of processes before this one."""
    if len(starts) > 1:
        return None, "the run was resumed, and its earlier attempts were not metered"
    if starts and starts[0].ranks > 1:
        return None, f"one device of {starts[0].ranks} was metered"
    if inherited:
        return None, "an earlier process trained, and what it metered ended with it"
    return energy.joules(), energy.reason


def compile_cache() -> dict[str, int]:
    """Kernels that this process found in the compiler's cache on disk, and those it built: a run that compiles cold
    does not compare with one that finds everything there."""
    counters = torch._dynamo.utils.counters["inductor"]  # noqa: SLF001 - no public name
    return {"found": counters["fxgraph_cache_hit"], "built": counters["fxgraph_cache_miss"]}


def compliance(
    recipe: Recipe, data: PreparedData, clock: Clock, *, ranks: int | None, whole: bool = True
) -> dict[str, str]:
    """The rules of the game, each with the evidence that this run kept it. `ranks` is None where it is not known,
    `whole` whether the journal has every step."""
    loaded = recipe.data.tokenizer not in ("bpe", "wordpiece")
    tokenizer = "read from a file" if loaded else f"{recipe.data.tokenizer} trained on the corpus"
    used, budget = clock.used_seconds(), recipe.budget
    spent = f"{used:.1f} s used"
    if budget.unit != "seconds":
        spent = f"{clock.counts[budget.unit]:,.0f} of {budget.amount:,.0f} {budget.unit}, {spent}"
    if budget.seconds:
        late = used - budget.seconds
        verdict = "kept" if late <= max(1.0, 0.01 * budget.seconds) else "EXCEEDED"
        spent = f"{verdict}: {used:.1f} s used of {budget.seconds:.0f} s ({used / budget.seconds:.2%})"
    if ranks is None:
        spent += " on each device; how many there were is not known"
    elif ranks > 1:
        spent += f" on each of {ranks} devices"
    filters = ", ".join(name_of(type(f)) for f in recipe.data.filters) or "none"
    return {
        "1 from scratch": f"initial weights drawn from seed {recipe.seed}; objective {name_of(type(recipe.objective))}",
        "1 nothing pretrained": f"tokenizer {tokenizer}, fingerprint {data.tokenizer.fingerprint}; filters: {filters}",
        "2 raw text": f"{', '.join(recipe.data.corpus)}; prepared data {data.manifest['fingerprint']}",
        "3 budget": f"{spent}; compiling {clock.ledger().get('compile', 0.0):.1f} s of it; the ledger's rows add up",
        "4 downstream": "every score names its protocol and holds all of its hyperparameters",
        "5 evidence": "recipe.json, journal.jsonl, environment.json, fit.json and this summary"
        + ("" if whole else "; the journal has LOST ROWS"),
    }


def _model(recipe: Recipe, data: PreparedData) -> dict[str, Any]:
    vocab, length = data.tokenizer.vocab_size, recipe.data.length
    model = make_model(recipe, vocab=vocab)
    return {
        "architecture": name_of(type(recipe.model.shape)),
        "size": recipe.size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "trunk_parameters": sum(p.numel() for p in model.encoder.stack.parameters()),
        "flops_per_token": flops_per_token(recipe, vocab=vocab),
        "max_length": length,
        "vocabulary": vocab,
    }
