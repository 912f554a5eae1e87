"""A signal in any phase of a command: exit code 75 soon, one message with the command to go on, and no step is lost."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gpuday.core.journal import Start, Step, read, surviving
from gpuday.core.rundir import RunDir, read_json
from trained_run import newest

ROOT = Path(__file__).resolve().parents[2]
HARNESS = str(ROOT / "tests" / "faults" / "signalled.py")
SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")
STEPS, IN_STEP = 4, 3  # of the run, and the step in whose middle a signal comes
SECONDS = 30.0  # from a signal to the end of the process: those 5 of an idle machine, on a busy one

# Places of the work, and the steps that the checkpoint then must have; None where there need not be one.
TRAINING = {
    "first look": None,
    "in a step": IN_STEP - 1,
    "in an update": None,
    "looking": None,
    "saving": None,
    "final look": STEPS,
    "final save": STEPS,
}
TRAIN, RUN = ("train", "tiny.toml"), ("run", "tiny.toml", "--tasks", "none")
BEFORE = ("reading", "training the tokenizer", "encoding", "fitting", "building")
AFTER = ("evaluating", "exporting", "reporting")


def met(places: Iterable[str]) -> pytest.MarkDecorator:
    """Each place meets two of the signals, the next place the two others: one handler takes them all."""
    cases = [(where, number) for i, where in enumerate(places) for number in (SIGNALS[:2], SIGNALS[2:])[i % 2]]
    return pytest.mark.parametrize(("where", "number"), cases)


@dataclass(frozen=True)
class Ended:
    """How a command that was met by a signal ended."""

    run: RunDir
    command: list[str]
    code: int
    seconds: float
    left: int
    out: str
    err: str


class Commands:
    """Commands in processes that are forked from one in which torch is loaded."""

    def __init__(self, place: Path) -> None:
        self._place = place
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "GPUDAY_CACHE": "cache", "OMP_NUM_THREADS": "1"}
        self.environment = {**environment, "TORCHINDUCTOR_CACHE_DIR": "inductor"}
        self._server = subprocess.Popen(
            [sys.executable, HARNESS],
            cwd=place,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, name: str, *command: str, place: str = "", number: str = "SIGTERM") -> Ended:
        """A command on the run of a name, with a signal at a place, or to its end."""
        command = (*(command or TRAIN), "--out", f"runs/{name}")
        request = {"place": place, "signal": number, "out": str(self._place / "told"), "command": [*command]}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        answer = json.loads(self._server.stdout.readline())
        out, err = ((self._place / f"told.{stream}").read_text() for stream in ("out", "err"))
        assert answer["missed"] is (not place), f"{place}: {err}"
        run = RunDir(self._place / "runs" / name)
        return Ended(run, [*command], answer["code"], answer["seconds"], answer["left"], out, err)

    def close(self) -> None:
        self._server.kill()
        self._server.communicate()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_toml: Callable[..., str]) -> Path:
    """A folder with the tiny preset, whose steps have sixteen micro-batches, and which looks and saves after each."""
    folder = tmp_path_factory.mktemp("signals")
    train = "save_every_seconds = 0.001\nvalidate_every = 0.01"
    text = tiny_toml(budget=f"{STEPS}steps", rows=64, batch='ramp = "constant"', train=train)
    (folder / "tiny.toml").write_text(text)
    (folder / "compiled.toml").write_text(text.replace('compile = "off"', 'compile = "on"'))
    return folder


@pytest.fixture(scope="module")
def commands(place: Path) -> Iterator[Commands]:
    """Runs commands in the folder."""
    made = Commands(place)
    yield made
    made.close()


@pytest.fixture(scope="module")
def whole(commands: Commands) -> Ended:
    """An undisturbed run."""
    ended = commands("whole", *RUN)
    assert ended.code == 0, ended.err
    return ended


def well_left(ended: Ended, number: str) -> None:
    """What holds for every place."""
    assert ended.code == 75, ended.err
    assert ended.err.startswith(f"error: {number}: stopped"), ended.err
    assert ended.err.count("error:") == 1
    assert ended.err.endswith(f": {shlex.join(['gpuday', *ended.command])}\n")
    assert "Traceback" not in ended.out + ended.err
    assert ended.left == 0
    assert ended.seconds < SECONDS


def steps(run: RunDir) -> list[Step]:
    return [row for row in surviving(run.journal) if isinstance(row, Step)]


def same(run: RunDir, whole: RunDir) -> None:
    """The run ended where the other one did, to the bit, by the same steps."""
    assert [(row.step, row.first_row, row.loss) for row in steps(run)] == [
        (row.step, row.first_row, row.loss) for row in steps(whole)
    ]
    a, b = newest(run), newest(whole)
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (a.folder / name).read_bytes() == (b.folder / name).read_bytes()
    for name in ("nats_per_token", "before", "by_source"):
        assert read_json(run.summary)["heldout"][name] == read_json(whole.summary)["heldout"][name]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_at_start_up_ends_the_command_at_once(place: Path, commands: Commands, number: str) -> None:
    """While torch is being imported, which takes seconds: nothing has begun, and it says what to type."""
    command = ["train", "tiny.toml", "--out", f"runs/start {number}"]
    done = subprocess.run(
        [sys.executable, HARNESS, "start-up", number, *command],
        cwd=place,
        env=commands.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    well_left(Ended(RunDir(place / "runs"), command, done.returncode, 0.0, 0, done.stdout, done.stderr), number)
    assert not (place / "runs" / f"start {number}").exists()


@met(BEFORE)
def test_a_signal_before_the_first_step_leaves_nothing_half_made(
    place: Path, commands: Commands, whole: Ended, where: str, number: str
) -> None:
    """Reading, native code, a thread, a trial of the device, building: the command ends, and no unfinished file stays."""
    command = TRAIN
    if where == "fitting":
        shutil.rmtree(place / "cache" / "fit", ignore_errors=True)
    elif where != "building":  # another sample for the tokenizer, so that the data is not there
        command = (*TRAIN, "--set", f"data.seed={SIGNALS.index(number) + 1}")
    ended = commands(f"{where} {number}".replace(" ", "-"), *command, place=where, number=number)
    well_left(ended, number)
    assert not ended.run.checkpoints.exists()
    assert not [p for p in (place / "cache" / "data").iterdir() if p.name.endswith(".tmp")]
    assert whole.code == 0


@met(TRAINING)
def test_a_signal_in_training_saves_every_step_and_the_run_ends_as_if_undisturbed(
    commands: Commands, whole: Ended, where: str, number: str
) -> None:
    """A checkpoint of the last step that was made, also from the middle of the next; then to the bit the same run."""
    name = f"{where} {number}".replace(" ", "-")
    ended = commands(name, place=where, number=number)
    well_left(ended, number)
    made = steps(ended.run)
    if where == "first look":
        assert made == []
        assert not ended.run.checkpoints.exists()
    else:
        assert newest(ended.run).state["progress"]["step"] == made[-1].step
        assert f"stopped at step {made[-1].step}," in ended.err
    if TRAINING[where] is not None:
        assert made[-1].step == TRAINING[where]
    resumed = commands(name)
    assert resumed.code == 0, resumed.err
    same(resumed.run, whole.run)
    starts = [row.step for _, row in read(resumed.run.journal) if isinstance(row, Start)]
    assert starts == [0] if where == "final save" else starts == [0, len(made)]


@met(AFTER)
def test_a_signal_after_training_costs_only_that_room(
    place: Path, commands: Commands, whole: Ended, where: str, number: str
) -> None:
    """The same command goes on behind the training, which is not touched."""
    name = f"{where} {number}".replace(" ", "-")
    shutil.copytree(whole.run.root, place / "runs" / name, symlinks=True)
    journal = whole.run.journal.read_bytes()
    ended = commands(name, *RUN, place=where, number=number)
    well_left(ended, number)
    assert ended.run.journal.read_bytes() == journal
    assert newest(ended.run).state["progress"]["final"] is not None


def test_a_command_that_was_met_in_every_room_after_training_ends_well(commands: Commands, whole: Ended) -> None:
    """Evaluation, export and report, each torn away in turn, and then the whole."""
    for where in AFTER:
        well_left(commands("rooms", *RUN, place=where), "SIGTERM")
    done = commands("rooms", *RUN)
    assert done.code == 0, done.err
    same(done.run, whole.run)
    assert read_json(done.run.summary)["export"]["parity_max_abs"] is not None
    assert done.run.report.is_file()


def test_a_signal_while_the_first_step_is_compiled_does_not_wait_for_the_compiler(commands: Commands) -> None:
    """It is met in the middle of a kernel, and no compiler is left behind."""
    ended = commands("compiled", "train", "compiled.toml", place="compiling the first step", number="SIGUSR1")
    well_left(ended, "SIGUSR1")
    assert "stopped at step 0" in ended.err
    assert newest(ended.run).state["progress"]["step"] == 0
    assert steps(ended.run) == []
