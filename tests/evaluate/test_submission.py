"""The zip for GLUE's server: whole, in its words, or refused with what is wrong."""

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gpuday.core.errors import DataError, UsageError
from gpuday.evaluate.submission import SHEETS, check_submission, missing, write_submission
from gpuday.evaluate.tasks.glue import GLUE

OFFICIAL = {  # rows of the files that the official download holds
    "CoLA": 1063,
    "SST-2": 1821,
    "MRPC": 1725,
    "STS-B": 1379,
    "QQP": 390_965,
    "MNLI-m": 9796,
    "MNLI-mm": 9847,
    "QNLI": 5463,
    "RTE": 3000,
    "WNLI": 146,
    "AX": 1104,
}


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[dict[str, int]]:
    """Test sets of 300 rows at most: the official ones take seconds. Gives the true sizes."""
    true = {name: sheet.rows for name, sheet in SHEETS.items()}
    with pytest.MonkeyPatch.context() as patch:
        for name, sheet in SHEETS.items():
            patch.setitem(SHEETS, name, replace(sheet, rows=min(300, sheet.rows)))
        yield true


@pytest.fixture(scope="module")
def answers(short: dict[str, int]) -> dict[str, NDArray[Any]]:
    """Made-up answers to every row of every test set; of STS-B some beyond its scale."""
    assert short
    draw = np.random.default_rng(0)
    found: dict[str, NDArray[Any]] = {}
    for sheet in SHEETS.values():
        many = len(sheet.answers)
        found[sheet.task] = draw.integers(0, many, sheet.rows) if many else draw.normal(2.5, 2.0, sheet.rows)
    return found


@pytest.fixture(scope="module")
def whole(answers: dict[str, NDArray[Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("submission") / "glue.zip"
    assert write_submission(path, answers) == []
    return path


def read(path: Path, name: str) -> list[list[str]]:
    with zipfile.ZipFile(path) as archive:
        return [line.split("\t") for line in archive.read(f"{name}.tsv").decode().splitlines()]


def test_the_rows_that_are_asked_for_are_the_official_ones(short: dict[str, int]) -> None:
    """Of every test set, the diagnostic one included."""
    assert short == OFFICIAL


def test_the_zip_has_every_file_with_all_its_rows(whole: Path) -> None:
    """Eleven files, a header and one row for each of the test set, numbered from 0."""
    check_submission(whole)
    with zipfile.ZipFile(whole) as archive:
        assert sorted(archive.namelist()) == sorted(f"{name}.tsv" for name in OFFICIAL)
    for name, sheet in SHEETS.items():
        lines = read(whole, name)
        assert lines[0] == ["index", "prediction"]
        assert [line[0] for line in lines[1:]] == [str(i) for i in range(sheet.rows)]


def test_answers_are_in_the_servers_words(whole: Path, answers: dict[str, NDArray[Any]]) -> None:
    """Entailment in words, other classes as numbers, similarity as a number that stays on the scale."""
    words = {task.name: task.classes for task in GLUE}
    for name in ("MNLI-m", "QNLI", "RTE"):
        task = SHEETS[name].task
        assert [row[1] for row in read(whole, name)[1:]] == [words[task][i] for i in answers[task]]
    for name in ("CoLA", "SST-2", "MRPC", "QQP", "WNLI"):
        assert [row[1] for row in read(whole, name)[1:]] == [str(i) for i in answers[name]]
    similar = [float(row[1]) for row in read(whole, "STS-B")[1:]]
    assert min(similar) == 0 and max(similar) == 5
    assert similar == pytest.approx(answers["STS-B"].clip(0, 5), abs=5e-4)


def test_the_same_answers_give_the_same_bytes(whole: Path, answers: dict[str, NDArray[Any]], tmp_path: Path) -> None:
    """No date gets into the zip."""
    write_submission(tmp_path / "again.zip", answers)
    assert (tmp_path / "again.zip").read_bytes() == whole.read_bytes()


def test_what_is_missing_is_listed_and_nothing_is_written(answers: dict[str, NDArray[Any]], tmp_path: Path) -> None:
    """The server wants all: a set without answers, and one with too few, are both named."""
    some = {name: values for name, values in answers.items() if name != "AX"} | {"RTE": answers["RTE"][:7]}
    assert [fault.partition(":")[0] for fault in missing({n: len(v) for n, v in some.items()})] == ["RTE", "AX"]
    with pytest.raises(UsageError, match="7 test rows of RTE, 300 in the official set\nAX: no test rows"):
        write_submission(tmp_path / "glue.zip", some)
    with pytest.raises(UsageError, match="7 test rows of RTE"):
        write_submission(tmp_path / "glue.zip", some, fill=True)
    assert list(tmp_path.iterdir()) == []


def test_a_constant_stands_in_only_where_it_is_asked_for(answers: dict[str, NDArray[Any]], tmp_path: Path) -> None:
    """And what it stands in for is told."""
    path = tmp_path / "glue.zip"
    some = {name: values for name, values in answers.items() if name not in ("AX", "STS-B")}
    assert write_submission(path, some, fill=True) == ["STS-B", "AX"]
    check_submission(path)
    assert {row[1] for row in read(path, "AX")[1:]} == {"entailment"}
    assert {row[1] for row in read(path, "STS-B")[1:]} == {"0.000"}


def spoilt(whole: Path, name: str, change: Callable[[str], str]) -> bytes:
    """The zip with the text of one file changed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(buffer, "w") as other:
        for entry in archive.namelist():
            text = archive.read(entry).decode()
            other.writestr(entry, change(text) if entry == f"{name}.tsv" else text)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("AX", lambda text: text.replace("index\tprediction", "id\tlabel"), "begins with 'id"),
        ("WNLI", lambda text: text.replace("\n3\t", "\n4\t"), "row 3"),
        ("WNLI", lambda text: text[: text.rindex("\n145")] + "\n", "145 rows, not 146"),
        ("RTE", lambda text: text.replace("entailment", "yes", 1), "none of entailment, not_entailment"),
        ("STS-B", lambda text: text.replace("\n0\t", "\n0\t9"), "no number from 0 to 5"),
        ("STS-B", lambda text: text.replace("\n0\t", "\n0\tnan"), "no number from 0 to 5"),
        ("CoLA", lambda text: text.replace("\n0\t", "\n0\té"), "more than ASCII"),
    ],
)
def test_a_fault_is_named_with_its_file(
    whole: Path, tmp_path: Path, name: str, change: Callable[[str], str], told: str
) -> None:
    """Header, numbers of rows, words and scale."""
    path = tmp_path / "glue.zip"
    path.write_bytes(spoilt(whole, name, change))
    with pytest.raises(DataError, match=rf"{name}\.tsv.*{told}"):
        check_submission(path)


def test_what_is_no_such_zip_is_refused(whole: Path, tmp_path: Path) -> None:
    """Another file, none, a zip with other names, and one that was cut off."""
    path = tmp_path / "other.zip"
    with pytest.raises(DataError, match="cannot read"):
        check_submission(path)
    path.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(DataError, match="no zip"):
        check_submission(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("MNLI.tsv", "")
    with pytest.raises(DataError, match=r"no AX.tsv; .*and 7 more"):
        check_submission(path)
