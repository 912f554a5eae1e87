"""The state of a checkpoint: what no run writes is damage, what another version wrote is named, what an older one lacks has its default."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuday.core.errors import DataError
from gpuday.core.rundir import RunDir
from gpuday.train import checkpoint
from gpuday.train.checkpoint import Damaged, Saved
from gpuday.train.resumable import is_final, resumable

TrainRun = Callable[..., Any]
STRANGE = (None, -2, True, "x", [], [None], {}, {"x": "y"}, float("nan"), float("inf"), 10**400)


@pytest.fixture
def saved(finished: RunDir, run: RunDir) -> Saved:
    """The final checkpoint of a run."""
    found = checkpoint.load_newest(run.checkpoints, warn=pytest.fail)
    assert found is not None
    return found


def changed(state: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The state with one value, of those that a resume reads, replaced by a strange one."""
    places = [(part, key) for part in ("progress", "pace", "clock") for key in state[part]]
    places += [("clock", "ledger", "step"), ("clock", "counts", "steps"), ("progress", "final", "nats_per_token")]
    for place in [("progress",), ("pace",), ("clock",), *places]:
        for value in STRANGE:
            made = copy.deepcopy(state)
            inner = made
            for key in place[:-1]:
                inner = inner[key]
            before, inner[place[-1]] = inner[place[-1]], value
            if type(before) is type(value) and (not value or place[-1] in ("losses", "norms")):
                continue  # an empty list or table, or nothing, may be what a run writes
            yield f"{'.'.join(place)} = {value!r:.20}", made


def test_a_state_that_no_run_writes_is_damage(saved: Saved) -> None:
    """Values of other types, no numbers, numbers that are too large, tables that are gone: never another error. A signal
    in the gradient's noise may be measured below zero."""
    taken, refused, damaged = list[str](), list[str](), 0
    for name, state in changed(saved.state):
        try:
            resumable(Saved(saved.folder, saved.model, saved.optimizer, state))
        except Damaged:
            damaged += 1
        except DataError:
            refused.append(name)
        else:
            taken.append(name)
    assert damaged > 180
    assert refused == ["progress = {'x': 'y'}", "pace = {'x': 'y'}"]
    assert sorted(taken) == ["progress.before = None", "progress.final = None", "progress.noise_signal = -2"]


def test_the_state_of_a_run_is_resumable(saved: Saved) -> None:
    """So is one of an earlier version, which noted less; one without what it is about is damage."""
    assert resumable(saved) and is_final(saved)
    state = copy.deepcopy(saved.state)
    for name in ("losses", "norms", "noise_signal", "noise_trace", "rolled_back_to", "microbatch", "compilations"):
        del state["progress"][name]
    del state["pace"]["compile_seconds"]
    older = Saved(saved.folder, {}, {}, state)
    assert resumable(older)
    del state["progress"]["step"]
    with pytest.raises(Damaged):
        resumable(older)


@pytest.mark.parametrize("part", ["progress", "pace"])
def test_a_state_of_a_later_version_is_named_and_stays(saved: Saved, part: str) -> None:
    """Nothing of it is damaged: it is not set aside."""
    saved.state[part]["surprise"] = 1
    with pytest.raises(DataError, match=r"another version of gpuday.*surprise") as caught:
        resumable(saved)
    assert "--out" in caught.value.fix


@pytest.mark.parametrize("state", [{}, {"progress": 5}, {"progress": {}}, {"progress": {"final": None}}])
def test_what_does_not_say_so_is_not_final(state: dict[str, Any]) -> None:
    """Whatever else it holds."""
    assert not is_final(Saved(Path("step-1"), {}, {}, state))


def test_a_run_goes_on_from_the_checkpoint_before_a_strange_one(train_run: TrainRun, run: RunDir, saved: Saved) -> None:
    """It is set aside with its reason, and the run ends as it should; so it does with a state of an earlier version."""
    state = json.loads(json.dumps(saved.state))
    state["clock"]["ledger"] = {"step": "a lot"}
    checkpoint.save(run.checkpoints, 6, model=saved.model, optimizer=saved.optimizer, state=state)
    progress, _ = train_run()
    assert progress.step == 6 and progress.final is not None
    assert (run.checkpoints / "step-00000006.bad-foreign-state").is_dir()
    state = json.loads(json.dumps(saved.state))
    for name in ("microbatch", "losses", "norms"):
        del state["progress"][name]
    state["progress"]["final"] = None
    checkpoint.save(run.checkpoints, 6, model=saved.model, optimizer=saved.optimizer, state=state)
    progress, _ = train_run()
    assert progress.step == 6 and progress.final is not None and progress.microbatch > 0
