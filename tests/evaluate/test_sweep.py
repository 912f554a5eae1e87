from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gpuday.evaluate import sweep
from gpuday.evaluate.finetune import Diverged
from gpuday.evaluate.protocols import P1, P2, Protocol
from gpuday.evaluate.subject import Subject
from gpuday.evaluate.sweep import SEED, pick
from toy_tasks import toy

SMALL = replace(P2, batch=16, sweep=replace(P2.sweep, lrs=(1e-3, 3e-3), weight_decays=(1e-6,), many_epochs=(1, 2)))
START: dict[str, Any] = {}


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Protocol, int, Any]]:
    """What is fine-tuned instead of a model; the value is the rate times the epochs."""
    calls = list[tuple[Protocol, int, Any]]()

    def stand_in(_subject: Subject, data: Any, setting: Protocol, seed: int, *, start: Any, **_: Any) -> Any:
        calls.append((setting, seed, start))
        return SimpleNamespace(outcome=SimpleNamespace(metrics={data.task.main: setting.lr * setting.epochs}))

    monkeypatch.setattr(sweep, "finetune", stand_in)
    return calls


def test_the_best_on_dev_is_picked(subject: Subject, tuned: list[tuple[Protocol, int, Any]]) -> None:
    """Each setting is fine-tuned once, from the given start, by a seed that is never reported; all trials are kept."""
    picked = pick(subject, toy("classification"), SMALL, start=START)
    assert (picked.protocol.lr, picked.protocol.epochs, picked.protocol.sweep) == (3e-3, 2, None)
    assert [(t.lr, t.epochs) for t in picked.trials] == [(1e-3, 1), (1e-3, 2), (3e-3, 1), (3e-3, 2)]
    assert [call[0] for call in tuned] == list(SMALL.settings("words"))
    assert {(seed, id(start)) for _, seed, start in tuned} == {(SEED, id(START))}
    assert SEED < 0


def test_a_sweep_is_resumed(subject: Subject, tuned: list[tuple[Protocol, int, Any]]) -> None:
    """Known settings are not run again, new ones are handed out as soon as they are known."""
    settings = SMALL.settings("words")
    found = dict[Protocol, float | None]()
    picked = pick(
        subject, toy("classification"), SMALL, known={settings[0]: 1.0, settings[3]: 0.5}, found=found.__setitem__
    )
    assert picked.protocol == settings[0]
    assert [call[0] for call in tuned] == [*settings[1:3]] == [*found]


def test_a_trial_that_diverges_is_the_worst(subject: Subject) -> None:
    """It ends no sweep and is never taken; it is handed out without a value, and where all diverge that is a fault."""
    assert SMALL.sweep is not None
    wild = replace(SMALL, sweep=replace(SMALL.sweep, lrs=(1e30, 1e-3), many_epochs=(2,)))
    found = dict[Protocol, float | None]()
    data = toy("classification", train=32, dev=12)
    picked = pick(subject, data, wild, found=found.__setitem__)
    assert picked.protocol.lr == 1e-3
    assert (
        [trial.value is None for trial in picked.trials] == [value is None for value in found.values()] == [True, False]
    )
    with pytest.raises(Diverged, match="whichever of 2 settings"):
        pick(subject, data, wild, known=dict.fromkeys(found))


def test_trials_are_told(subject: Subject, tuned: list[tuple[Protocol, int, Any]]) -> None:
    """One event for each, with its number and value."""
    heard = []
    pick(
        subject,
        toy("classification"),
        SMALL,
        progress=lambda event, /, **values: heard.append((event, values["number"])),
    )
    assert heard == [("trial", n) for n in range(1, 5)]
    assert len(tuned) == 4


def test_without_a_sweep_nothing_is_tried(subject: Subject, tuned: list[tuple[Protocol, int, Any]]) -> None:
    """P1 has one setting, for which no dev set is asked."""
    picked = pick(subject, toy("classification"), P1)
    assert (picked.protocol, picked.trials, tuned) == (P1, (), [])


def test_a_real_sweep_picks_a_setting(subject: Subject) -> None:
    """Fine-tunings of two settings on a toy task; the trials' values are metrics."""
    one = replace(SMALL, sweep=replace(SMALL.sweep, many_epochs=(1,)))
    picked = pick(subject, toy("classification", train=32, dev=12), one)
    assert picked.protocol in one.settings("words")
    assert all(trial.value is not None and 0.0 <= trial.value <= 1.0 for trial in picked.trials)
