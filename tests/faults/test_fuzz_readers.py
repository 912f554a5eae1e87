"""Two thousand damaged and odd inputs to every reader, in processes of their own; the soak gives them by the hundred thousand."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuday.core.errors import DataError
from gpuday.data.document import DropCounter
from gpuday.data.sources.files import Files
from loading import load

COUNT = 1600


fuzzing = load(Path(__file__).with_name("fuzzing.py"))


@pytest.fixture(scope="module")
def report() -> Any:
    """How the inputs of seed 1 ended."""
    return fuzzing.fuzz(1, COUNT)


def test_every_input_ends_in_a_result_or_in_an_error_for_people(report: Any) -> None:
    """No other exception, no crash, no 2 s of CPU time; a failure names the command that makes its input again."""
    assert report.failures == []
    assert report.count == COUNT
    assert set(report.inputs) == set(fuzzing.SHARES)


def test_memory_stays_below_a_gibibyte(report: Any) -> None:
    """Of the process that reads, and of the worker that decodes parquet."""
    assert 0 < report.peak_memory < fuzzing.MOST_MEMORY


def test_inputs_reach_past_the_door(report: Any) -> None:
    """Some are good enough to be read to their end, others are refused: else nothing was tried."""
    assert report.accepted > COUNT / 10
    assert sum(report.refused.values()) > COUNT / 10


def test_an_input_that_waits_for_ever_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It uses no CPU time, which alone the child counts; the failure names it, and what came before it is reported."""
    child = tmp_path / "child.py"
    child.write_text("import time\nopen('at', 'w').write('%12d' % 7)\ntime.sleep(3600)\n")
    monkeypatch.setattr(fuzzing, "CHILD", child)
    monkeypatch.setattr(fuzzing, "STALLED_SECONDS", 3.0)
    report = fuzzing.Report(seed=1)
    assert fuzzing._part(report, "txt", 5, 100) == 3
    (failure,) = report.failures
    assert "not through in 3 s" in failure and failure.endswith("1 7 1 txt")


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.tsv"])
@settings(max_examples=100)
@given(
    pieces=st.lists(
        st.binary(max_size=20) | st.sampled_from([b'{"text": "a"}\n', b"text,n\n", b'"', b"\n", b"\r", b"a b"])
    )
)
def test_any_bytes_are_documents_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, pieces: list[bytes]
) -> None:
    """Documents hold text that encodes, without NUL, under ids of their own."""
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(b"".join(pieces))
    try:
        documents = list(Files(path=str(path)).documents(DropCounter()))
    except DataError:
        return
    assert all(d.text.encode() and "\0" not in d.text for d in documents)
    assert len({d.id for d in documents}) == len(documents)
