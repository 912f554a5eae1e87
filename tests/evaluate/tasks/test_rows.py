import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zstandard

from gpuday.core.errors import DataError
from gpuday.evaluate.tasks.glue import GLUE
from gpuday.evaluate.tasks.rows import cap_rows, find_folder, parse_rows, read_task

TASKS = {task.name: task for task in GLUE}
COLA, RTE, STSB, QQP = (TASKS[n] for n in ("CoLA", "RTE", "STS-B", "QQP"))
ROWS = b'{"text_a": "It is so.", "label": 1}\n\n{"text_a": "Is so it.", "label": 0}\n'


def write(folder: Path, train: bytes, dev: bytes, ending: str = ".jsonl") -> None:
    folder.mkdir()
    for stem, content in (("train", train), ("dev", dev)):
        packed = zstandard.ZstdCompressor().compress(content) if ending.endswith(".zst") else content
        (folder / (stem + ending)).write_bytes(packed)


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.zst"])
def test_json_lines_are_read_plain_or_packed(tmp_path: Path, ending: str) -> None:
    """Texts and labels come in file order, blank lines are passed over."""
    write(tmp_path / "CoLA", ROWS, ROWS[:36], ending)
    data = read_task(COLA, tmp_path)
    assert data.train.text_a == ("It is so.", "Is so it.")
    assert data.train.labels.tolist() == [1, 0]
    assert (len(data.dev), data.partial, data.capped, data.train.text_b) == (1, False, False, None)


def test_a_partial_folder_is_found_and_said(tmp_path: Path) -> None:
    """`CoLA-partial` stands in for `CoLA` where that is not there, whatever the case."""
    write(tmp_path / "cola-Partial", ROWS, ROWS)
    assert read_task(COLA, tmp_path).partial
    assert find_folder(RTE, tmp_path) is None


def test_the_hash_follows_the_files(tmp_path: Path) -> None:
    """Any byte of either file changes it."""
    write(tmp_path / "CoLA", ROWS, ROWS)
    first = read_task(COLA, tmp_path).data_hash
    (tmp_path / "CoLA" / "dev.jsonl").write_bytes(ROWS + b"\n")
    assert read_task(COLA, tmp_path).data_hash != first


def test_the_official_layouts_are_read() -> None:
    """Headers or none, class names as labels, quotation marks as text, real labels, torn rows of QQP passed over."""
    cola = parse_rows(COLA, Path("train.tsv"), b'gj04\t1\t\tSay "it.\r\nbc01\t0\t*\tIt say.\n')
    assert (cola.text_a, cola.labels.tolist()) == (('Say "it.', "It say."), [1, 0])
    rte = b"index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\tnot_entailment\n1\tC.\tD.\tentailment\n"
    rows = parse_rows(RTE, Path("train.tsv"), rte)
    assert (rows.text_b, rows.labels.tolist()) == (("B.", "D."), [1, 0])
    sts = b"index\tgenre\tsentence1\tsentence2\tscore\n0\tx\tA.\tB.\t3.2\n"
    assert parse_rows(STSB, Path("dev.tsv"), sts).labels.tolist() == [3.2]
    whole = b"id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n" + b"1\t2\t3\tA?\tB?\t1\n" * 2000
    assert len(parse_rows(QQP, Path("dev.tsv"), whole + b"1\t2\t3\tA?\n")) == 2000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text_a": "a"}\n', "label None"),
        (b'{"text_a": "a", "label": -1}\n', "label -1"),
        (b'{"text_a": "a", "label": 2}\n', "label 2"),
        (b'{"text_a": "a", "label": true}\n', "label True"),
        (b'{"text_a": "a", "label": "odd"}\n', "label 'odd'"),
        (b'{"text": "a", "label": 1}\n', "no text in column 'text_a'"),
        (b'{"text_a": null, "label": 1}\n', "no text"),
        (b"[1]\n", "not a JSON object"),
        (b'{"text_a": \n', "line 1 is not JSON"),
        (b"\xff\xfe\n", "not UTF-8"),
        (b"\n", "has no rows"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_place(content: bytes, message: str) -> None:
    """Each fault in a file is a DataError that names the file and a fix."""
    with pytest.raises(DataError, match=message) as caught:
        parse_rows(COLA, Path("folder/train.jsonl"), content)
    assert "folder/train.jsonl" in str(caught.value)
    assert caught.value.fix


def test_a_label_of_a_regression_must_be_a_number() -> None:
    """Neither words nor NaN are."""
    for label in ('"high"', "NaN", "null"):
        with pytest.raises(DataError, match="not a number"):
            parse_rows(STSB, Path("x.jsonl"), f'{{"text_a": "a", "text_b": "b", "label": {label}}}'.encode())


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"index\tsentence1\tlabel\n0\ta\tentailment\n", "no column 'sentence2'"), (b"a\tb\n", "no column")],
)
def test_a_wrong_header_is_named(content: bytes, message: str) -> None:
    """The missing column's name stands in the error."""
    with pytest.raises(DataError, match=message):
        parse_rows(RTE, Path("dev.tsv"), content)


def test_many_torn_rows_are_a_fault() -> None:
    """One in a thousand is passed over, one in two is not."""
    with pytest.raises(DataError, match="lack columns"):
        parse_rows(COLA, Path("train.tsv"), b"gj04\t1\t\tA.\nbc01\t0\n")


def test_missing_folders_and_files_are_named(tmp_path: Path) -> None:
    """Each with where to put what."""
    with pytest.raises(DataError, match="CoLA is not in"):
        read_task(COLA, tmp_path)
    with pytest.raises(DataError, match="not a folder"):
        read_task(COLA, tmp_path / "none")
    (tmp_path / "CoLA").mkdir()
    (tmp_path / "CoLA" / "train.jsonl").write_bytes(ROWS)
    with pytest.raises(DataError, match="no dev file"):
        read_task(COLA, tmp_path)
    (tmp_path / "CoLA" / "dev.jsonl.zst").write_bytes(b"not zstd")
    with pytest.raises(DataError, match="damaged"):
        read_task(COLA, tmp_path)


def test_a_cap_takes_the_same_rows_each_time_and_keeps_dev(tmp_path: Path) -> None:
    """A subset in file order, not the head of the file; a cap above the rows changes nothing."""
    lines = "".join(json.dumps({"text_a": f"row {i}", "label": i % 2}) + "\n" for i in range(100)).encode()
    write(tmp_path / "CoLA", lines, lines)
    data = read_task(COLA, tmp_path)
    capped = cap_rows(data, 20)
    numbers = [int(text.split()[1]) for text in capped.train.text_a]
    assert numbers == sorted(set(numbers))
    assert numbers != list(range(20))
    assert capped.train.labels.tolist() == [n % 2 for n in numbers]
    assert cap_rows(data, 20).train.text_a == capped.train.text_a
    assert (capped.capped, len(capped.dev), capped.train_rows_available) == (True, 100, 100)
    assert cap_rows(data, 100) is data
    assert cap_rows(replace(data, train=data.train.take(np.arange(5))), None).train.text_a == data.train.text_a[:5]
