"""The summary: stable keys, numbers that the journal and the clock bear out."""

import dataclasses
import json
import signal
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gpuday.core import config
from gpuday.core.clock import Budget, Clock
from gpuday.core.errors import Interrupted
from gpuday.core.journal import Start, Step, read, surviving
from gpuday.core.rundir import RunDir
from gpuday.data.prepare import PreparedData
from gpuday.models.flops import training_per_token
from gpuday.recipe import Recipe
from gpuday.train.assemble import make_model
from gpuday.train.device import EnergyMeter
from gpuday.train.fit import Fit
from gpuday.train.summary import compliance, device_seconds, sections

TrainRun = Callable[..., Any]
MakeRecipe = Callable[..., Recipe]
Summarise = Callable[..., dict[str, Any]]


class Killed(BaseException):
    """Stands for kill -9."""


@pytest.fixture
def summarise(tiny: Recipe, data: PreparedData, pinned: Fit, run: RunDir, train_run: TrainRun) -> Summarise:
    """The sections of a run that is trained to its end, after whatever happened to it before."""

    def go(recipe: Recipe = tiny) -> dict[str, Any]:
        progress, clock = train_run(recipe)
        return sections(recipe, data, run, pinned, progress, clock, EnergyMeter(torch.device("cpu")))

    return go


KEYS = {
    "clock": {"budget", "budget_seconds", "used_seconds", "ledger"},
    "train": {
        *("tokens", "tokens_processed", "steps", "epochs", "tokens_per_second", "flops"),
        *("useful_flops_per_second", "bound_share", "data_wait_share", "compilations", "ranks"),
    },
    "model": {"architecture", "size", "parameters", "trunk_parameters", "flops_per_token", "max_length"},
    "heldout": {"nats_per_token", "word_bits_per_byte", "before", "by_source"},
}
PLAIN = {"compliance", "device", "device_seconds", "energy_joules", "recipe_fingerprint", "seed", "resumes"}


def test_the_keys_that_others_read_are_there(summarise: Summarise) -> None:
    """As the design lists them; more may be added, none may go. All of it is JSON."""
    summary = summarise()
    assert KEYS.keys() | PLAIN <= summary.keys()
    for name, keys in KEYS.items():
        assert keys <= summary[name].keys()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_the_numbers_of_a_run_follow_from_its_journal(
    summarise: Summarise, run: RunDir, tiny: Recipe, data: PreparedData, pinned: Fit
) -> None:
    """Counted again from the rows: tokens, steps, epochs, speeds as medians over steps that compiled nothing."""
    summary = summarise()
    steps = [row for _, row in read(run.journal) if isinstance(row, Step)]
    train = summary["train"]
    assert (train["tokens"], train["tokens_processed"], train["steps"]) == (6 * 8 * 32, 6 * 8 * 32, 6)
    assert train["epochs"] == 48 / len(data.train)
    assert train["tokens_per_second"] == statistics.median(256 / s.step_seconds for s in steps)
    assert train["flops"] == steps[-1].flops
    assert train["bound_share"] == train["useful_flops_per_second"] / pinned.bound_flops_per_second
    assert train["data_wait_share"] == sum(s.waited_seconds for s in steps) / sum(s.step_seconds for s in steps)
    assert 0 < train["data_wait_share"] < 1
    slowest, fastest = min(s.step_seconds for s in steps), max(s.step_seconds for s in steps)
    per_step = steps[1].flops - steps[0].flops
    assert 0.5 * per_step / fastest < train["useful_flops_per_second"] < 1.5 * per_step / slowest
    assert summary["clock"]["used_seconds"] == pytest.approx(sum(summary["clock"]["ledger"].values()))
    assert summary["resumes"] == 0
    assert summary["recipe_fingerprint"] == config.fingerprint(tiny)


def test_the_model_is_described_by_count_and_formula(summarise: Summarise, tiny: Recipe) -> None:
    """Trunk: two blocks without embedding and head."""
    model = summarise()["model"]
    built = make_model(tiny, vocab=512)
    assert model["parameters"] == sum(p.numel() for p in built.parameters())
    assert model["trunk_parameters"] == 2 * (96 * 32 + 32 * 32 + 128 * 32 + 32 * 64) + 3 * 32
    assert (model["architecture"], model["size"], model["max_length"]) == ("plain", "nano", 32)
    assert model["flops_per_token"] == training_per_token(tiny.model, vocab=512, length=32, predicted_share=13 / 32)


def test_the_held_out_losses_are_those_of_the_run(summarise: Summarise, train_run: TrainRun) -> None:
    """Before and after, and by source."""
    heldout = summarise()["heldout"]
    progress, _ = train_run()
    assert heldout["nats_per_token"] == progress.final["nats_per_token"] < heldout["before"]
    assert heldout["before"] == progress.before["nats_per_token"]
    assert heldout["by_source"] == {"synthetic": pytest.approx(heldout["nats_per_token"])}


def test_work_that_a_kill_destroyed_is_processed_and_not_kept(
    summarise: Summarise, run: RunDir, train_run: TrainRun
) -> None:
    """Four steps, lost; then all six: ten were processed, six are kept, and one resume is told."""

    def die(event: str, /, **values: Any) -> None:
        if event == "step" and values["step"] == 4:
            raise Killed

    with pytest.raises(Killed):
        train_run(tell=die)
    summary = summarise()
    assert summary["train"]["tokens"] == 6 * 256
    assert summary["train"]["tokens_processed"] == 10 * 256
    assert summary["train"]["steps"] == len([r for r in surviving(run.journal) if isinstance(r, Step)]) == 6
    assert (summary["resumes"], summary["attempts"]) == (1, 2)


def test_an_interrupted_run_is_summed_up_as_one(summarise: Summarise, train_run: TrainRun) -> None:
    """Nothing was lost, so that what was processed is what was kept."""

    def stop(event: str, /, **values: Any) -> None:
        if event == "step" and values["step"] == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        train_run(tell=stop)
    summary = summarise()
    assert summary["train"]["tokens_processed"] == summary["train"]["tokens"] == 6 * 256
    assert summary["resumes"] == 1


def test_a_run_without_a_step_has_no_speed(summarise: Summarise, make_recipe: MakeRecipe) -> None:
    """None, rather than a division by zero or a zero that means something else."""
    summary = summarise(make_recipe("0.001s"))
    assert summary["train"]["steps"] == 0
    assert summary["train"]["tokens_per_second"] is None
    assert summary["train"]["bound_share"] is None


def test_the_energy_of_a_run_in_one_go_is_what_the_meter_read(
    summarise: Summarise, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A meter starts with its process: a run that was not resumed has all of it."""
    monkeypatch.setattr(EnergyMeter, "joules", lambda self: 5.0)
    assert summarise()["energy_joules"] == 5.0


def test_the_energy_of_a_resumed_run_is_not_known(
    summarise: Summarise, train_run: TrainRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None, and why."""

    def die(event: str, /, **values: Any) -> None:
        if event == "step":
            raise Killed

    monkeypatch.setattr(EnergyMeter, "joules", lambda self: 5.0)
    with pytest.raises(Killed):
        train_run(tell=die)
    summary = summarise()
    assert summary["energy_joules"] is None
    assert "resumed" in summary["energy_reason"]


def test_the_energy_of_a_run_that_another_process_trained_is_not_known(
    summarise: Summarise, train_run: TrainRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between the last save and the summary: the meter of the process that writes it has measured nothing."""
    monkeypatch.setattr(EnergyMeter, "joules", lambda self: 5.0)
    train_run()
    summary = summarise()
    assert summary["resumes"] == 0
    assert summary["energy_joules"] is None
    assert "earlier process" in summary["energy_reason"]


@pytest.mark.parametrize("kept", [0, 1, 4])
def test_a_run_whose_journal_lost_rows_is_summed_up_with_what_is_known(
    summarise: Summarise, train_run: TrainRun, run: RunDir, kept: int
) -> None:
    """The weights are whole and say most; what the journal alone knew is None, and the evidence says so."""
    whole = summarise()
    run.journal.write_text("".join(run.journal.read_text().splitlines(keepends=True)[:kept]))
    summary = summarise()
    for name in ("tokens", "steps", "epochs", "flops", "compilations"):
        assert summary["train"][name] == whole["train"][name]
    assert summary["heldout"] == whole["heldout"]
    for name in ("tokens_processed", "skipped_updates", "rollbacks"):
        assert (whole["train"][name] is None, summary["train"][name]) == (False, None)
    assert (summary["resumes"], summary["device_seconds"]) == (None, None)
    assert summary["train"]["ranks"] == (1 if kept else None)
    assert "LOST ROWS" in rule(summary["compliance"], "evidence")
    assert "LOST ROWS" not in rule(whole["compliance"], "evidence")
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def began(used: float, ranks: int) -> Start:
    return Start(step=0, used_seconds=used, device="a test", compiled=False, microbatch=4, ranks=ranks)


def test_device_seconds_are_the_clocks_times_the_ranks_of_each_attempt() -> None:
    """By hand: 100 s on four devices, then 50 s on two; the start of an attempt counts with the attempt."""
    assert device_seconds([began(2.0, 1)], 60.0) == 60.0
    assert device_seconds([began(2.0, 4), began(100.0, 2)], 150.0) == 4 * 100 + 2 * 50


def test_the_share_of_the_bound_is_one_devices(
    summarise: Summarise, train_run: TrainRun, run: RunDir, tiny: Recipe, data: PreparedData, pinned: Fit
) -> None:
    """The same journal as if two ranks had written it: as many tokens a second, and half the share of a device."""
    alone = summarise()
    lines = run.journal.read_text().replace('"ranks": 1', '"ranks": 2')
    run.journal.write_text(lines)
    progress, clock = train_run()
    both = sections(tiny, data, run, pinned, progress, clock, EnergyMeter(torch.device("cpu")))
    assert both["train"]["ranks"] == 2
    assert both["train"]["bound_share"] == pytest.approx(alone["train"]["bound_share"] / 2)
    assert both["train"]["useful_flops_per_second"] == alone["train"]["useful_flops_per_second"]
    assert both["device_seconds"] == pytest.approx(2 * alone["device_seconds"], rel=1e-3)
    assert both["energy_joules"] is None and "one device of 2" in both["energy_reason"]


def test_missing_energy_comes_with_its_reason(summarise: Summarise) -> None:
    """A CPU has no meter."""
    summary = summarise()
    assert summary["energy_joules"] is None
    assert "NVML" in summary["energy_reason"]


def with_seconds(recipe: Recipe, used: float) -> tuple[Recipe, Clock]:
    """A recipe of 100 s, and its clock after some."""
    timed = dataclasses.replace(recipe, budget=Budget.parse("100s"), seed=5)
    clock = Clock(timed.budget)
    ledger = {"compile": 5.0, "step": used - 5.0}
    clock.restore(clock.state() | {"ledger": ledger})
    return timed, clock


def rule(rules: dict[str, str], word: str) -> str:
    """The evidence of the one rule whose name holds the word."""
    (found,) = [evidence for name, evidence in rules.items() if word in name]
    return found


def test_compliance_states_evidence_for_each_rule(tiny: Recipe, data: PreparedData) -> None:
    """Seed, fingerprints, seconds over budget, compiling: what a reader can check, for each of the five rules."""
    recipe, clock = with_seconds(tiny, 95.0)
    rules = compliance(recipe, data, clock, ranks=1)
    assert sorted({name[0] for name in rules}) == list("12345")
    assert "seed 5" in rule(rules, "from scratch") and "objective hybrid" in rule(rules, "from scratch")
    assert data.tokenizer.fingerprint in rule(rules, "pretrained")
    assert data.manifest["fingerprint"] in rule(rules, "raw text")
    assert "95.0 s used of 100 s (95.00%)" in rule(rules, "budget")
    assert "compiling 5.0 s" in rule(rules, "budget")


@pytest.mark.parametrize(("used", "verdict"), [(95.0, "kept"), (100.9, "kept"), (103.0, "EXCEEDED")])
def test_a_budget_that_was_passed_is_not_called_kept(
    tiny: Recipe, data: PreparedData, used: float, verdict: str
) -> None:
    """A hundredth is the end of a step; more is no run of that budget."""
    recipe, clock = with_seconds(tiny, used)
    assert rule(compliance(recipe, data, clock, ranks=1), "budget").startswith(verdict)


def test_the_evidence_names_the_devices(tiny: Recipe, data: PreparedData) -> None:
    """Seconds on each of four are no seconds on one."""
    recipe, clock = with_seconds(tiny, 95.0)
    assert "on each of 4 devices" in rule(compliance(recipe, data, clock, ranks=4), "budget")
    assert "devices" not in rule(compliance(recipe, data, clock, ranks=1), "budget")


def test_a_tokenizer_that_was_read_is_not_called_trained(tiny: Recipe, data: PreparedData) -> None:
    """Loading one is allowed, and recorded."""
    loaded = config.replace_at(tiny, "data.tokenizer", "/somewhere/tokenizer.json")
    assert "read from a file" in rule(compliance(loaded, data, Clock(tiny.budget), ranks=1), "pretrained")
    assert "bpe trained on the corpus" in rule(compliance(tiny, data, Clock(tiny.budget), ranks=1), "pretrained")
