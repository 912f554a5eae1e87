"""Nothing is asked of the network, nothing is told to anybody, and nothing is written but run, cache and kernels.

A whole tiny run and `gpuday doctor` in a process in which every socket of the internet and every look-up of a name is
noted and refused, without any of the variables by which libraries are told to stay offline. Several ranks talk to each
other through sockets of the loopback address; they are no part of this.
"""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from loading import load

ROOT = Path(__file__).resolve().parents[2]
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY")
SECRET = "hf_" + "abcdefghijklmnopqrstuvwxyz0123"
# Doctor's measurements take seconds and say nothing here; the compiler's own folder is tests/train/test_device.py's.
DRIVER = """
import json, os, sys
os.umask(0o027)
from gpuday.cli import doctor, main
doctor.product_speed = lambda *_: 1e12
doctor.copy_speed = lambda *_: 1e10
doctor.compile_fault = lambda _: ""
codes = []
for call in json.loads(sys.argv[1]):
    try:
        main(call)
    except SystemExit as end:
        codes.append(end.code)
print(json.dumps({"event": "codes", "codes": codes}))
"""


witness = load(Path(__file__).parent / "witness.py")


@dataclass(frozen=True)
class Watched:
    """A process that was watched, in a home of its own."""

    place: Path
    run: Path
    hook: Path
    events: list[dict[str, Any]]
    out: str
    err: str


def write_task(folder: Path) -> None:
    """RTE with sixteen rows."""
    folder.mkdir(parents=True)
    rows = [{"text_a": f"a {i}", "text_b": f"b {i}", "label": i % 2} for i in range(16)]
    for name in ("train", "dev"):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, tiny_toml: Callable[..., str]) -> Watched:
    """prepare, train, evaluate, export, report; then the rooms that only look, and doctor."""
    place = tmp_path_factory.mktemp("offline")
    for name in ("home", "tmp", "work"):
        (place / name).mkdir()
    work, run = place / "work", place / "work" / "runs" / "first"
    (work / "tiny.toml").write_text(tiny_toml(budget="3steps"))
    write_task(work / "tasks" / "RTE")
    flags = ["--tasks", "rte", "--task-data", "tasks", "--task-rows", "16", "--out", "runs/first"]
    calls = [
        ["run", "tiny.toml", *flags, "--set", "data.tokenizer_characters=20000"],
        ["list", "runs"],
        ["show", "runs/first"],
        ["doctor"],
    ]
    kept = {
        k: v
        for k, v in os.environ.items()
        if k not in OFFLINE and not k.startswith(("XDG_", "GPUDAY_", "HF_", "TORCH"))
    }
    hooked = witness.install(place / "hook")
    environment = {
        **kept,
        **hooked,
        "HOME": str(place / "home"),
        "TMPDIR": str(place / "tmp"),
        "HF_TOKEN": SECRET,
        "PYTHONPATH": os.pathsep.join([hooked["PYTHONPATH"], str(ROOT / "src")]),
    }
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(calls)],
        cwd=work, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"')]  # what `show` prints has many lines
    records = [json.loads(line) for line in lines]
    codes = records[-1]["codes"]
    assert codes == [0] * len(calls), done.stderr + done.stdout
    return Watched(place, run, place / "hook", records, done.stdout, done.stderr)


def test_the_witness_would_have_noticed(tmp_path: Path) -> None:
    """The hook itself: a socket, a name, a request, a program, a file and an unpickling are noted, and the network refused."""
    hooked = witness.install(tmp_path / "hook")
    code = """
import pickle, socket, subprocess, sys, urllib.request
for attempt in (lambda: socket.socket(), lambda: socket.getaddrinfo("example.invalid", 80),
                lambda: urllib.request.urlopen("http://example.invalid/"), lambda: socket.socket(socket.AF_INET6)):
    try: attempt()
    except OSError as error: print(error)
socket.socket(socket.AF_UNIX).close()
open("written", "w").close()
subprocess.run([sys.executable, "-c", "import socket; socket.socket()"], stderr=subprocess.DEVNULL)
pickle.loads(b"cbuiltins\\nlen\\n.")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, **hooked},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("the network is not there") == 4
    network = " ".join(witness.seen(tmp_path / "hook", "network"))
    assert all(word in network for word in ("getaddrinfo", "example.invalid", "urllib", "socket.__new__"))
    assert (tmp_path / "hook" / "log").read_text().count("socket.__new__") == 3  # the child's among them
    assert repr(str(tmp_path / "written")) in witness.seen(tmp_path / "hook", "write")
    assert len(witness.seen(tmp_path / "hook", "program")) == 1
    assert witness.seen(tmp_path / "hook", "pickle") == ["('builtins', 'len')"]


def test_a_whole_run_asks_the_network_for_nothing(watched: Watched) -> None:
    """All rooms ran, to exit code 0, and no socket of the internet was made and no name looked up by any library."""
    told = {event.get("event") for event in watched.events}
    assert {"prepared", "trained", "heldout", "score", "export", "report"} <= told
    assert next(e for e in watched.events if e.get("event") == "export")["kind"] == "modernbert"
    assert witness.seen(watched.hook, "network") == []


def test_only_programs_that_are_meant_to_are_started(watched: Watched) -> None:
    """Workers of our own Python, git for the revision, and what the libraries ask about the machine; never a shell."""
    programs = {ast.literal_eval(what) for what in witness.seen(watched.hook, "program")}
    own = {Path(sys.executable).name, "python", "python3"}
    assert programs - own <= {"git", "lscpu", "uname", "nvidia-smi", "ldconfig", "gcc", "g++", "c++", "clang++", "ld"}
    assert witness.seen(watched.hook, "shell") == []


def test_nothing_is_unpickled(watched: Watched) -> None:
    """By us or by any library, in a whole run: no object's class is ever looked up for a pickle."""
    assert witness.seen(watched.hook, "pickle") == []


def test_files_are_written_in_the_run_and_the_cache_alone(watched: Watched) -> None:
    """By what Python was asked, and by what lies in home and the folder for temporary files afterwards."""
    written = [Path(ast.literal_eval(what)) for what in witness.seen(watched.hook, "write")]
    written = [path for path in written if path.parts[:2] != ("/", "proc")]  # the kernel's knobs of this process
    own = (watched.place / "home" / ".cache" / "gpuday", watched.run, watched.run.parent)
    places = (*own, watched.place / "tmp", *own[0].parents, Path("/dev/null"))
    outside = [
        p for p in written if not any(p == q for q in places) and not any(q in p.parents for q in (*own, places[3]))
    ]
    assert outside == []
    assert {path.split("/")[:2][-1] for path in witness.listing(watched.place / "home")} == {".cache", "gpuday"}
    left = {path for path in witness.listing(watched.place / "tmp") if not path.startswith("torchinductor_")}
    assert left == set()  # the compiler makes its folder when it is imported
    assert {p.split("/")[0] for p in witness.listing(watched.place / "work")} == {"tiny.toml", "tasks", "runs"}


def test_the_users_mask_of_permissions_holds(watched: Watched) -> None:
    """Under a mask of 027 nobody else reads a file, and nobody but the owner writes one."""
    paths = [watched.run / name for name in witness.listing(watched.run)]
    paths += [watched.place / "home" / name for name in witness.listing(watched.place / "home") if "gpuday" in name]
    loose = [str(p) for p in paths if not p.is_symlink() and p.stat().st_mode & 0o027]
    assert loose == [] and len(paths) > 30


def test_no_secret_and_no_home_is_in_what_people_publish(watched: Watched) -> None:
    """The token of the environment is nowhere; the exported folder, the page and the environment name no folder of the
    machine."""
    texts = {}
    for name in witness.listing(watched.run):
        path = watched.run / name
        if path.is_file():
            texts[name] = path.read_bytes().decode("utf-8", "replace")
    assert [name for name, text in texts.items() if SECRET in text] == []
    published = [
        "environment.json",
        "report.html",
        "model/config.json",
        "model/README.md",
        "model/tokenizer_config.json",
    ]
    published += ["model/special_tokens_map.json", "model/tokenizer.json"]
    for name in published:
        assert str(watched.place) not in texts[name] and str(ROOT) not in texts[name], name
    assert set(json.loads(texts["environment.json"])["attempts"][0]) == {
        "gpuday", "source", "python", "platform", "libraries", "cores", "memory_bytes", "device", "command",
    }  # fmt: skip
    assert "_name_or_path" not in texts["model/config.json"]


def test_the_page_of_the_run_has_no_address_to_load(watched: Watched) -> None:
    """No element with an address but the page's own sections."""

    class Reader(HTMLParser):
        found: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            names = ("src", "srcset", "href", "action", "data", "poster", "background", "ping")
            self.found += [v for k, v in attrs if k in names and v and not v.startswith(("#", "data:,"))]

    reader = Reader()
    reader.feed((watched.run / "report.html").read_text())
    assert reader.found == []
