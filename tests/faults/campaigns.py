"""Kills at random moments of a command's whole life, by the hundred: the part `kills` of `tools/soak.py`."""

import fcntl
import json
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import xxhash
from killing import ROOT, Campaign, Place, make_place
from sameness import differences

from gpuday.core.environment import source_revision

SOURCE = ROOT / "src"
STEPS = 160
COMPILED_EVERY = 20  # of so many campaigns one is compiled, which takes several times as long


def kills(seed: int, count: int, folder: Path, *, command: str = "run", steps: int = STEPS) -> dict[str, Any]:
    """Kill `gpuday run` `count` times, run after run, each given again until it is done, and compare each with one undisturbed.

    A kill comes at a moment drawn uniformly from the time that an undisturbed command takes, imports included. Returns
    {count, runs, rooms: kills by room, failures}; a failure holds what repeats it. `folder` is new, and the undisturbed run
    is kept beside it for all campaigns of the same source. A `note` says where one of another source was there.
    """
    compile_ = "on" if seed % COMPILED_EVERY == COMPILED_EVERY - 1 else "off"
    whole, life, note = undisturbed(folder.parent, command, compile_, steps)
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
    report = {"count": struck, "runs": runs, "rooms": dict(rooms), "failures": failures}
    return {**report, "note": note} if note else report


def undisturbed(top: Path, command: str, compile_: str, steps: int) -> tuple[Place, float, str]:
    """The place of the undisturbed run of this source, made by whoever comes first, the seconds that its command took,
    and a word where it was made although one of another source is there."""
    top.mkdir(parents=True, exist_ok=True)
    name = f"undisturbed-{command}-{compile_}-{steps}"
    folder, note = top / f"{name}-{source_digest(SOURCE)}", ""
    settings: dict[str, Any] = {"budget": f"{steps}steps", "command": command, "compile_": compile_}
    with open(f"{folder}.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        record = Path(f"{folder}.json")
        if not record.exists():
            others = [json.loads(path.read_text())["revision"] for path in sorted(top.glob(f"{name}-*.json"))]
            if others:
                note = (
                    f"the undisturbed run was made anew: those that are there are of other code ({', '.join(others)})"
                )
            shutil.rmtree(folder, ignore_errors=True)
            seconds = Campaign(make_place(folder, **settings)).finish()
            record.write_text(json.dumps({"seconds": seconds, "revision": source_revision()}))
    return Place(folder=folder, command=()), json.loads(record.read_text())["seconds"], note


def source_digest(folder: Path) -> str:
    """Of every Python file below it: a revision says of a changed checkout that it is changed, and not how."""
    whole = xxhash.xxh3_64()
    for path in sorted(folder.rglob("*.py")):
        data = path.read_bytes()
        whole.update(f"{path.relative_to(folder).as_posix()} {len(data)} ".encode() + data)
    return whole.hexdigest()
