"""A run directory as a finished ten-minute run leaves it, written by hand, and ways to spoil it."""

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpuday.core.journal import Checkpoint, Journal, Note, Start, Step, Validation

RECIPE: dict[str, Any] = {
    "preset": "modern",
    "size": "nano",
    "budget": {"amount": 600.0, "unit": "seconds"},
    "data": {
        "corpus": ["pydocs"],
        "filters": [{"part": "repeats", "paragraphs": True}, {"part": "language", "stopwords": 0.05}],
        "order": {"part": "random"},
        "normalizer": "light",
        "tokenizer": "bpe",
        "vocab": 8192,
        "length": 128,
    },
    "model": {
        "width": 256,
        "shape": {"part": "plain", "layers": 4},
        "mixer": {"part": "softmax", "head_width": 64, "window": 0, "global_every": 3},
        "feedforward": {"part": "geglu", "ratio": 2.0},
        "norm_eps": 1e-05,
        "placement": "pre",
        "position": "rotary",
        "embedding_norm": True,
        "tied": True,
        "zero_output": True,
    },
    "objective": {"part": "mlm", "rate": 0.4, "masked": 1.0},
    "mask_rate": {"part": "ramp", "start": 1.0, "end": 0.5},
    "optimizer": {
        "part": "muon",
        "lr": 0.01,
        "momentum": 0.95,
        "rest": {"part": "adamw", "lr": 0.005, "beta1": 0.9, "beta2": 0.98, "eps": 1e-08, "weight_decay": 0.0},
    },
    "rate": {"part": "trapezoid", "warmup": 0.02, "cooldown": 0.8},
    "batch": {"design_tokens": 1048576, "exponent": 0.617, "ramp": {"part": "ramp", "start": 0.25}},
    "train": {"clip": 0.0, "dtype": "auto", "compile": "auto", "validate_every": 0.1},
    "seed": 7,
}
ENVIRONMENT: dict[str, Any] = {
    "attempts": [
        {
            "gpuday": "0.1.0",
            "source": "9f2c1e7d4b",
            "python": "3.11.7",
            "platform": "Linux-6.1-x86_64",
            "libraries": {"torch": "2.13.0+cpu", "numpy": "2.4.6", "tokenizers": "0.23.3", "scipy": None},
            "cores": 2,
            "device": "AMD EPYC 9R14, 2 threads",
            "command": ["gpuday", "run", "modern", "--budget", "10m", "--corpus", "my texts"],
        }
    ]
}
SUMMARY: dict[str, Any] = {
    "clock": {
        "budget": "10m",
        "budget_seconds": 600.0,
        "used_seconds": 599.25,
        "ledger": {"step": 528.5, "compile": 31.25, "validation": 21.0, "checkpoint": 9.5, "lost to a kill": 6.0, "other": 3.0},
    },
    "train": {
        "tokens": 7_864_320, "tokens_processed": 8_012_000, "steps": 1490, "epochs": 1.62, "tokens_per_second": 13370.4,
        "flops": 2.31e14, "useful_flops_per_second": 3.9e11, "bound_share": 0.618,
    },
    "model": {
        "architecture": "modern", "size": "nano", "parameters": 5_640_000, "trunk_parameters": 3_480_000,
        "flops_per_token": 2.9e7, "max_length": 128,
    },
    "heldout": {
        "nats_per_token": 4.127, "word_bits_per_byte": 2.013, "before": 9.016, "rows": 1536, "normalizer": "light",
        "by_source": {"stdlib": 3.871, "torch": 4.262, "transformers": 4.305, "numpy": 4.09},
    },
    "scores": {"pydocs-P1": {
        "protocol": "P1 (one set of hyperparameters, at most 5 epochs)",
        "seeds": [0, 1, 2, 3, 4],
        "mean": 0.7042,
        "tasks": {
            "package": {
                "median": 0.7125, "values": [0.7011, 0.7125, 0.7204, 0.6987, 0.7199], "metric": "accuracy",
                "interval": {"low": 0.6987, "high": 0.7204, "method": "BCa"},
                "rows_interval": {"low": 0.691, "high": 0.734, "method": "percentile, rows"},
                "baseline": {"majority": 0.213, "bag_of_words": 0.681}, "version": "1", "train_rows": 8000,
                "train_rows_available": 14_206, "dev_rows": 1702, "partial": False, "reference": 0.92,
            },
            "section": {
                "median": 0.696, "values": [0.69, 0.696, 0.701], "metric": "macro F1", "baseline": 0.401, "version": "2",
            },
        },
        "aggregates": {
            "without_marks": ["section"],
            "arithmetic": {"value": 0.7042, "without": {
                "package": {"value": 0.696, "change": -0.0082}, "section": {"value": 0.7125, "change": 0.0083}}},
            "normalised": {"value": 0.706, "without": {
                "package": {"value": None, "change": None}, "section": {"value": 0.706, "change": 0.0}}},
        },
        "aggregates_mnli_twice": {"arithmetic": {"value": 0.71}},
        "curves": {"package": [
            {"fraction": 0.1, "rows": 800, "median": 0.55, "interval": None, "n": 2, "values": [0.54, 0.56]},
            {"fraction": 1.0, "rows": 8000, "median": 0.7125, "n": 3, "values": [0.70, 0.7125, 0.72],
             "interval": {"low": 0.70, "high": 0.72, "method": "percentile"}},
        ]},
        "left_out": {"heading": "no folder"},
    }},
    "probes": {"minimal pairs": {
        "accuracy": 0.612, "pairs": 67000, "method": "within_word_l2r",
        "phenomena": {"anaphor_agreement": {"accuracy": 0.702, "pairs": 2000}, "ellipsis": {"accuracy": 0.514, "pairs": 2000}},
    }},
    "samples": [
        {"text": "Return the <mask> of the two numbers.", "truth": "sum",
         "predictions": [{"token": "sum", "probability": 0.412}, {"token": "product", "probability": 0.187},
                         {"token": "number", "probability": 0.061}, {"token": "value", "probability": 0.044}]},
        {"text": "If the file does not <mask>, an error is raised.", "truth": "exist",
         "predictions": [{"token": "exist", "probability": 0.733}, {"token": "match", "probability": 0.05},
                         {"token": "support", "probability": 0.031}]},
        {"text": "Compute the gradient of the input with respect to the <mask> weights.", "truth": "projection",
         "predictions": [{"token": "model", "probability": 0.128}, {"token": "given", "probability": 0.081},
                         {"token": "attention", "probability": 0.066}, {"token": "tensor", "probability": 0.051}]},
    ],
    "export": {"kind": "ModernBertForMaskedLM", "parity_max_abs": 3.1e-06, "folder": "model", "max_length": 128},
    "compliance": {
        "from scratch": "every parameter drawn from seed 7; no checkpoint was read but this run's own",
        "no pretrained parts in the data": "tokenizer trained on the corpus (bpe, 8192); filters: repeats, language",
        "within the budget": "599.25 s of 600 s; ledger adds up to within 0.000 s",
        "one protocol": "P1 for both tasks, 5 seeds, at most 5 epochs",
        "provenance": {"revision": "9f2c1e7", "recipe": "5be1a90c2d3f4e61", "seeds": [7]},
    },
    "device": "AMD EPYC 9R14 (2 cores, bf16)",
    "device_seconds": 599.25,
    "energy_joules": None,
    "energy_reason": "this machine gives no access to its energy counters",
    "recipe_fingerprint": "5be1a90c2d3f4e61",
    "seed": 7,
    "resumes": 1,
    "command": "gpuday run modern --size nano --budget 10m --seed 7 --out runs/modern-nano-10m-5be1a9",
}  # fmt: skip


def make_step(number: int, *, of: int, noise: float = 0.0, seconds: float = 600.0) -> Step:
    """Step `number` of a plausible trajectory of `of` steps; seconds, tokens and FLOPs are counted from the start."""
    done = number / of
    rows = 8 * max(1, round(min(1.0, 0.25 + 2.5 * done) * 8))
    tokens = round(7_864_320 * done)
    return Step(
        step=number,
        seconds=31.25 * seconds / 600 + done * (seconds * 0.95),
        step_seconds=seconds * 0.95 / of,
        compiled_anew=number == 1,
        fraction=done,
        multiplier=min(1.0, done / 0.02, (1 - done) / 0.8),
        rows=rows,
        first_row=number * rows,
        masked=round(rows * 128 * 0.4 * (1 - 0.5 * done)),
        loss=4.1 + 4.9 * math.exp(-6 * done) + noise,
        gradient_norm=1.0,
        tokens=tokens,
        flops=2.9e7 * tokens,
    )


def make_look(number: int, *, of: int, final: bool = False) -> Validation:
    """A look at the held-out text after step `number`."""
    step = make_step(number, of=of)
    nats = 9.016 if number == 0 else 4.127 if final else step.loss + 0.06
    rows = 1536 if final else 256
    return Validation(
        step=number,
        seconds=step.seconds,
        tokens=step.tokens,
        flops=step.flops,
        nats_per_token=nats,
        rows=rows,
        final=final,
    )


def write_journal(path: Path, *, steps: int = 300, final: bool = True) -> None:
    """Two attempts: a kill at two thirds, a resume a little before it."""
    noise = np.random.default_rng(0).normal(0, 0.12, steps + 1)
    lost, back = steps * 2 // 3, steps * 2 // 3 - max(1, steps // 50)
    for attempt, first, last in ((1, 0, lost), (2, back, steps)):
        journal = Journal(path, attempt=attempt)
        used = make_step(first, of=steps).seconds if first else 0.0
        journal.write(Start(step=first, used_seconds=used, device="cpu", compiled=True, microbatch=32))
        if not first:
            journal.write(make_look(0, of=steps))
        for number in range(first + 1, last + 1):
            journal.write(make_step(number, of=steps, noise=float(noise[number])))
            if number % max(1, steps // 10) == 0 and number < steps:
                journal.write(make_look(number, of=steps))
        journal.write(Checkpoint(step=last, seconds=1.0, save_seconds=0.4, folder=f"step-{last:08}"))
        if attempt == 1:
            journal.write(Note(step=last, message="no C++ compiler was found by the second worker: eager there"))
        elif final:
            journal.write(make_look(steps, of=steps, final=True))
        journal.close()


def write_run(root: Path, *, steps: int = 300, final: bool = True, summary: dict[str, Any] | None = None) -> Path:
    """A whole run directory. `summary` replaces sections of the finished run's; None as a section removes it."""
    root.mkdir(parents=True, exist_ok=True)
    merged = {**copy.deepcopy(SUMMARY), **(summary or {})}
    kept = {k: v for k, v in merged.items() if v is not None or k == "energy_joules"}
    for name, value in (("recipe", RECIPE), ("environment", ENVIRONMENT), ("summary", kept)):
        (root / f"{name}.json").write_text(json.dumps(value))
    write_journal(root / "journal.jsonl", steps=steps, final=final)
    return root


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run."""
    return write_run(tmp_path / "modern-nano-10m-5be1a9")


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run with some of its parts changed, under a name of one's choice."""

    def write(name: str = "run", **changes: Any) -> Path:
        return write_run(tmp_path / name, **changes)

    return write


INJECTIONS: list[str] = json.loads((Path(__file__).parent / "injections.json").read_text())


def spoil(value: Any, evil: str) -> Any:
    """The value with every text in it replaced by `evil`, and `evil` as one more key of every table."""
    if isinstance(value, dict):
        number = bool(value) and all(isinstance(v, float) for v in value.values())  # a ledger takes numbers only
        return {**{k: spoil(v, evil) for k, v in value.items()}, evil: 1.0 if number else evil}
    if isinstance(value, list):
        return [spoil(v, evil) for v in value]
    return evil if isinstance(value, str) else value


def write_hostile_run(root: Path, evil: str) -> Path:
    """A run in which every text of every file is `evil`, and so is the name of everything that has one."""
    write_run(root, steps=12)
    (root / "fit.json").write_text(
        json.dumps({"microbatch": 8, "reasons": {"threads": "2: all cores"}, "device": "cpu"})
    )
    for name in ("recipe", "environment", "summary", "fit"):
        path = root / f"{name}.json"
        path.write_text(json.dumps(spoil(json.loads(path.read_text()), evil)))
    journal = Journal(root / "journal.jsonl", attempt=3)
    journal.write(Start(step=12, used_seconds=1.0, device=evil, compiled=False, microbatch=1))
    journal.write(Note(step=12, message=evil))
    journal.write(make_look(12, of=12, final=True))  # an attempt that begins after the last step looks again
    journal.close()
    return root


@pytest.fixture
def hostile(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a run that consists of one text, each under another number."""
    made: list[str] = []

    def write(evil: str) -> Path:
        made.append(evil)
        return write_hostile_run(tmp_path / f"run{len(made)}", evil)

    return write
