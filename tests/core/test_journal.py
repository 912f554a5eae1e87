"""The journal: what was written is read back typed, whatever a kill did to its last line."""

import dataclasses
import errno
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpuday.core import journal
from gpuday.core.errors import EnvironmentFault, Interrupted
from gpuday.core.journal import Checkpoint, Journal, Noise, Note, Rollback, Start, Step, Validation


def start(step: int = 0) -> Start:
    return Start(step=step, used_seconds=1.0, device="cpu", compiled=False, microbatch=8)


def step(number: int, loss: float = 2.0) -> Step:
    return Step(
        step=number,
        seconds=1.0,
        step_seconds=0.5,
        compiled_anew=False,
        fraction=0.1,
        multiplier=1.0,
        rows=8,
        first_row=8 * number,
        masked=100,
        loss=loss,
        gradient_norm=1.0,
        tokens=1024,
        flops=1e9,
    )


def validation(number: int) -> Validation:
    return Validation(step=number, seconds=1.0, tokens=1, flops=1.0, nats_per_token=3.0, rows=4)


def checkpoint(number: int) -> Checkpoint:
    return Checkpoint(step=number, seconds=1.0, save_seconds=0.1, folder=f"step-{number:08}")


def write(path: Path, attempt: int, *rows: object) -> None:
    with_attempt = Journal(path, attempt=attempt)
    for row in rows:
        with_attempt.write(row)
    with_attempt.close()


def test_rows_come_back_typed_and_in_order(tmp_path: Path) -> None:
    """Every kind of row survives, with the attempt that wrote it."""
    noise = Noise(step=1, signal=-0.5, trace=2.0, scale=8.0)
    rows = [start(), step(1), noise, validation(1), checkpoint(1), Note(step=1, message="ü\nnew line")]
    write(tmp_path / "a" / "journal.jsonl", 3, *rows)
    assert list(journal.read(tmp_path / "a" / "journal.jsonl")) == [(3, row) for row in rows]


def test_every_line_is_one_json_object_with_kind_and_attempt(tmp_path: Path) -> None:
    """Other tools read it line by line."""
    path = tmp_path / "journal.jsonl"
    write(path, 1, start(), step(1))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["kind"], line["attempt"]) for line in lines] == [("start", 1), ("step", 1)]
    assert lines[1].keys() == {"kind", "attempt"} | {f.name for f in dataclasses.fields(Step)}


def test_all_kinds_of_rows_are_frozen_and_known_by_name() -> None:
    """A row is a record, not a place to work in."""
    known = {"start": Start, "step": Step, "validation": Validation, "checkpoint": Checkpoint, "note": Note}
    assert known | {"rollback": Rollback, "noise": Noise} == journal.KINDS
    with pytest.raises(dataclasses.FrozenInstanceError):
        start().step = 2


def test_a_step_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """Its line lacks what was not scheduled then; decay and dropout were whole, and what is not known says so."""
    path = tmp_path / "journal.jsonl"
    write(path, 1, step(1))
    line = json.loads(path.read_text())
    for name in ("question", "length", "decay", "dropout"):
        del line[name]
    path.write_text(json.dumps(line) + "\n")
    ((_, row),) = journal.read(path)
    assert (row.question, row.length, row.decay, row.dropout) == ("", 0, 1.0, 1.0)
    assert row == step(1)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_null_on_disk_and_nan_when_read(tmp_path: Path, loss: float) -> None:
    """A diverged step is recorded, and the file stays JSON."""
    path = tmp_path / "journal.jsonl"
    write(path, 1, step(1, loss))
    assert json.loads(path.read_text())["loss"] is None
    ((_, row),) = journal.read(path)
    assert math.isnan(row.loss)


def test_a_missing_journal_is_an_empty_one(tmp_path: Path) -> None:
    """Nothing ran yet."""
    path = tmp_path / "journal.jsonl"
    assert list(journal.read(path)) == []
    assert journal.attempts(path) == 0
    assert journal.surviving(path) == []


def test_a_torn_line_is_passed_over_wherever_the_kill_cut_it(tmp_path: Path) -> None:
    """For every prefix of the last line, the rows before it are read and the next attempt's are too."""
    path = tmp_path / "journal.jsonl"
    write(path, 1, start(), step(1))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole) - 1):
        path.write_bytes(whole[:cut])
        write(path, 2, start(0), step(1))
        rows = list(journal.read(path))
        assert rows == [(1, start()), (2, start(0)), (2, step(1))]


def test_a_line_that_lost_only_its_newline_is_kept(tmp_path: Path) -> None:
    """The row was written whole."""
    path = tmp_path / "journal.jsonl"
    write(path, 1, start(), step(1))
    path.write_bytes(path.read_bytes()[:-1])
    write(path, 2, start(1))
    assert [row for _, row in journal.read(path)] == [start(), step(1), start(1)]


def test_a_kill_loses_no_row_that_was_written(tmp_path: Path) -> None:
    """A process that kills itself with SIGKILL right after a write leaves that row."""
    path = tmp_path / "journal.jsonl"
    code = (
        "import os, signal, sys; from pathlib import Path; from gpuday.core.journal import Journal, Note\n"
        "j = Journal(Path(sys.argv[1]), attempt=1)\n"
        "for i in range(100): j.write(Note(step=i, message='x'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code, str(path)], env=environment).returncode == -signal.SIGKILL
    assert [row.step for _, row in journal.read(path)] == list(range(100))


def test_a_row_of_an_unknown_kind_is_passed_over(tmp_path: Path) -> None:
    """A newer version's journal can be read for what is known of it."""
    path = tmp_path / "journal.jsonl"
    path.write_text('{"kind": "weather", "attempt": 1, "rain": true}\n')
    write(path, 1, start())
    assert list(journal.read(path)) == [(1, start())]


def test_attempts_are_counted_by_the_largest(tmp_path: Path) -> None:
    """The next attempt is this plus one."""
    path = tmp_path / "journal.jsonl"
    write(path, 1, start())
    write(path, 2, start())
    assert journal.attempts(path) == 2


def test_the_surviving_trajectory_leaves_out_what_a_resume_redid(tmp_path: Path) -> None:
    """Three steps, a kill, a resume from step 1: steps 2 and 3 count once, from the second attempt."""
    path = tmp_path / "journal.jsonl"
    write(path, 1, start(0), step(1, 1.0), checkpoint(1), validation(1), step(2, 1.5), validation(2), step(3, 1.7))
    write(path, 2, start(1), step(2, 2.5), step(3, 2.7), validation(3))
    assert journal.surviving(path) == [
        start(0),
        step(1, 1.0),
        checkpoint(1),
        validation(1),
        start(1),
        step(2, 2.5),
        step(3, 2.7),
        validation(3),
    ]


def test_a_final_look_that_no_checkpoint_kept_does_not_survive(tmp_path: Path) -> None:
    """A kill between the last look and its save, after which the run goes on from the step that both belong to."""
    path = tmp_path / "journal.jsonl"
    lost, kept = (dataclasses.replace(validation(1), final=True, seconds=seconds) for seconds in (1.0, 2.0))
    write(path, 1, start(0), step(1), checkpoint(1), lost)
    write(path, 2, start(1), kept)
    assert journal.surviving(path) == [start(0), step(1), checkpoint(1), start(1), kept]


def test_surviving_keeps_every_attempt_and_note(tmp_path: Path) -> None:
    """What went wrong stays on record: resumes are counted, warnings remembered."""
    path = tmp_path / "journal.jsonl"
    write(path, 1, start(0), step(1), Note(step=1, message="slow disk"))
    write(path, 2, start(0), step(1, 5.0))
    write(path, 3, start(0), step(1, 6.0))
    rows = journal.surviving(path)
    assert [r for r in rows if isinstance(r, Start)] == [start(0)] * 3
    assert [r for r in rows if isinstance(r, Note)] == [Note(step=1, message="slow disk")]
    assert [r.loss for r in rows if isinstance(r, Step)] == [6.0]


def rollback(number: int, *, from_step: int) -> Rollback:
    return Rollback(step=number, from_step=from_step, position=8 * from_step, reason="loss is not finite")


def test_surviving_leaves_out_what_a_rollback_took_back(tmp_path: Path) -> None:
    """Steps, looks and checkpoints beyond the step that the run went back to; it stays on record itself."""
    path = tmp_path / "journal.jsonl"
    write(path, 1, start(0), step(1), checkpoint(1), step(2), validation(2), step(3), rollback(1, from_step=3))
    write(path, 1, checkpoint(1), step(2, 5.0))
    assert journal.surviving(path) == [
        start(0),
        step(1),
        checkpoint(1),
        rollback(1, from_step=3),
        checkpoint(1),
        step(2, 5.0),
    ]


def test_a_rollback_to_a_step_that_was_itself_lost_does_not_survive(tmp_path: Path) -> None:
    """A resume from before it begins with other weights; one from its own checkpoint keeps it."""
    path = tmp_path / "journal.jsonl"
    write(path, 1, start(0), step(1), step(2), step(3), rollback(2, from_step=3), step(3))
    write(path, 2, start(2), step(3))
    assert [row.step for row in journal.surviving(path) if isinstance(row, Rollback)] == [2]
    write(path, 3, start(1), step(2), step(3))
    rows = journal.surviving(path)
    assert not [row for row in rows if isinstance(row, Rollback)]
    assert [row.step for row in rows if isinstance(row, journal.Step)] == [1, 2, 3]


class Full:
    """Stands for the file of a journal on a disk that takes so many bytes more."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = self.file.write(bytes(data)[: self.room])
        self.room -= taken
        return int(taken)

    def fileno(self) -> int:
        return int(self.file.fileno())

    def close(self) -> None:
        self.file.close()


@pytest.mark.parametrize("room", [0, 1, 50, 400, 1000])
def test_rows_wait_in_memory_while_the_disk_is_full(tmp_path: Path, room: int) -> None:
    """Wherever a line was cut, it goes on at the same byte; the beginning and the end are told, and no more."""
    path, told = tmp_path / "journal.jsonl", list[str]()
    written = Journal(path, attempt=1, warn=told.append)
    written.write(start())
    full = written._file = Full(written._file, room)
    for number in range(1, 9):
        written.write(step(number))
    full.room = 10**6
    written.write(step(9))
    written.close()
    assert [row for _, row in journal.read(path)] == [start(), *map(step, range(1, 10))]
    assert ["wait in memory" in message for message in told] == [True, False]


def test_a_sync_makes_rows_and_name_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file each time, its folder once. Where the disk cannot, no row is lost by it: the save that follows tells it."""
    synced, told, path = list[str](), list[str](), tmp_path / "journal.jsonl"
    real, broken = os.fsync, list[bool]()

    def fsync(handle: int) -> None:
        if broken:
            raise OSError(errno.EIO, "Input/output error")
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with Journal(path, attempt=1, warn=told.append) as written:
        for number in range(2):
            written.write(step(number))
            written.sync()
        assert synced == [str(path), str(tmp_path), str(path)]
        broken.append(True)
        written.sync()
        written.write(step(2))
        written.sync()
        broken.clear()
        written.sync()
    assert told == []
    assert [row for _, row in journal.read(path)] == [step(0), step(1), step(2)]


def test_rows_that_wait_go_on_waiting_behind_a_sync(tmp_path: Path) -> None:
    """On a full disk the save that follows makes room, or fails by itself."""
    told = list[str]()
    with Journal(tmp_path / "journal.jsonl", attempt=1, warn=told.append) as written:
        full = written._file = Full(written._file, 0)
        written.write(step(1))
        written.sync()
        full.room = 10**6
    assert [row for _, row in journal.read(tmp_path / "journal.jsonl")] == [step(1)]
    assert len(told) == 2


def test_rows_that_are_given_up_are_told_with_their_number(tmp_path: Path) -> None:
    """Unless there is a fault already, which matters more; an interruption is none."""
    for fault, expected in (
        (None, EnvironmentFault),
        (Interrupted("asked"), EnvironmentFault),
        (KeyError(1), KeyError),
    ):
        with pytest.raises(expected) as caught, Journal(tmp_path / "journal.jsonl", attempt=1) as written:
            written._file = Full(written._file, 0)
            written.write(step(1))
            written.write(step(2))
            if fault is not None:
                raise fault
        if expected is EnvironmentFault:
            assert "the last 2 rows of the journal cannot be written: No space" in caught.value.what
