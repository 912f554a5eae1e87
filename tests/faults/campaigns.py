"""Kills at random moments of a command's whole life, by the hundred: the part `kills` of `tools/soak.py`."""

import fcntl
import json
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from killing import Campaign, Place, make_place
from sameness import differences

STEPS = 160
COMPILED_EVERY = 20  # of so many campaigns one is compiled, which takes several times as long


def kills(seed: int, count: int, folder: Path, *, command: str = "run", steps: int = STEPS) -> dict[str, Any]:
    """Kill `gpuday run` `count` times, run after run, each given again until it is done, and compare each with one undisturbed.

    A kill comes at a moment drawn uniformly from the time that an undisturbed command takes, imports included. Returns
    {count, runs, rooms: kills by room, failures}; a failure holds what repeats it. `folder` is new, and the undisturbed run
    is kept beside it for all campaigns.
    """
    compile_ = "on" if seed % COMPILED_EVERY == COMPILED_EVERY - 1 else "off"
    whole, life = _undisturbed(folder.parent, command, compile_, steps)
    draw, rooms, failures, runs, struck = random.Random(seed), Counter[str](), list[str](), 0, 0
    while struck < count:
        place = make_place(folder / f"run-{runs}", budget=f"{steps}steps", command=command, compile_=compile_)
        campaign, wrong = Campaign(place), list[str]()
        try:
            while not campaign.done and struck + len(campaign.kills) < count:
                campaign.strike(lambda attempt: True, draw.uniform(0.0, life))
            if not campaign.done:
                campaign.finish()
            wrong = list(differences(whole.folder, place.folder))
        except (AssertionError, OSError, RuntimeError, TimeoutError) as error:
            wrong = [f"{type(error).__name__}: {error}"]
        struck, runs = struck + len(campaign.kills), runs + 1
        rooms.update(kill.room for kill in campaign.kills)
        if wrong:
            moments = ", ".join(f"{kill.seconds:.3f} s {kill.room}" for kill in campaign.kills)
            failures += [f"seed {seed}, run {runs}, kills at {moments}: {line}" for line in wrong]
            break  # its folder stays, to be looked at
        shutil.rmtree(place.folder)
    return {"count": struck, "runs": runs, "rooms": dict(rooms), "failures": failures}


def _undisturbed(top: Path, command: str, compile_: str, steps: int) -> tuple[Place, float]:
    """The place of the undisturbed run, made by whoever comes first, and the seconds that its command took."""
    top.mkdir(parents=True, exist_ok=True)
    folder = top / f"undisturbed-{command}-{compile_}-{steps}"
    settings: dict[str, Any] = {"budget": f"{steps}steps", "command": command, "compile_": compile_}
    with open(f"{folder}.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        took = Path(f"{folder}.json")
        if not took.exists():
            shutil.rmtree(folder, ignore_errors=True)
            took.write_text(json.dumps(Campaign(make_place(folder, **settings)).finish()))
    return Place(folder=folder, command=()), json.loads(took.read_text())
