import json
from pathlib import Path

import pytest
import xxhash
import zstandard

from gpuday.core.errors import DataError
from gpuday.evaluate.tasks.files import find_folder, missing, read_task
from gpuday.evaluate.tasks.glue import GLUE
from gpuday.evaluate.tasks.single import CONLL, RACE, SQUAD, SWAG

TASKS = {task.name: task for task in GLUE}
COLA, RTE, MNLI = (TASKS[n] for n in ("CoLA", "RTE", "MNLI"))
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


def test_the_folder_that_was_meant_is_named(tmp_path: Path) -> None:
    """The suite's folder and what it lies in both work; a task's own, or one further out, are answered with the one to
    name; elsewhere with what is looked for and what is there."""
    suite = tmp_path / "data" / "glue"
    suite.mkdir(parents=True)
    write(suite / "CoLA", ROWS, ROWS)
    assert read_task(COLA, suite).data_hash == read_task(COLA, suite.parent).data_hash
    for near, folder in ((suite / "CoLA", suite), (tmp_path, suite.parent)):
        with pytest.raises(DataError) as refused:
            read_task(COLA, near)
        assert f"write --task-data {folder}, which holds CoLA" in refused.value.fix
    with pytest.raises(DataError) as refused:
        read_task(RTE, suite)
    assert f"holds RTE/ or glue/RTE/; in {suite} there are the folders CoLA" in refused.value.fix


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


def test_the_hash_is_that_of_both_files(tmp_path: Path) -> None:
    """The bytes of train, then of dev: scores on record stay comparable."""
    write(tmp_path / "CoLA", ROWS, ROWS[:36])
    assert read_task(COLA, tmp_path).data_hash == xxhash.xxh3_128_hexdigest(ROWS + ROWS[:36])


def test_a_folder_of_the_suite_comes_first(tmp_path: Path) -> None:
    """`DIR/glue/RTE` beside `DIR/RTE`, as where two suites have a task of one name."""
    for place in ("glue/RTE", "RTE"):
        (tmp_path / place).mkdir(parents=True)
    assert find_folder(RTE, tmp_path) == tmp_path / "glue" / "RTE"


def nli(rows: int, label: str | None) -> bytes:
    record = {"text_a": "a", "text_b": "b"} | ({"label": label} if label else {})
    return "".join(json.dumps({**record, "idx": i}) + "\n" for i in range(rows)).encode()


@pytest.fixture
def mnli(tmp_path: Path) -> Path:
    """MNLI with both dev and both test sets, and the diagnostic set in its two official files."""
    folder = tmp_path / "MNLI"
    folder.mkdir()
    for stem, rows in {"train": 4, "dev_matched": 3, "dev_mismatched": 2}.items():
        (folder / f"{stem}.jsonl").write_bytes(nli(rows, "neutral"))
    for stem, rows in {"test_matched": 5, "test_mismatched": 6}.items():
        (folder / f"{stem}.jsonl").write_bytes(nli(rows, None))
    (tmp_path / "diagnostic").mkdir()
    (tmp_path / "diagnostic" / "diagnostic.tsv").write_text("index\tsentence1\tsentence2\n0\tA.\tB.\n")
    full = "Logic\tDomain\tPremise\tHypothesis\tLabel\n\tNews\tA.\tB.\tcontradiction\n"
    (tmp_path / "diagnostic" / "diagnostic-full.tsv").write_text(full)
    return tmp_path


def test_companions_are_read_where_they_are(mnli: Path) -> None:
    """Each with its rows and hash; the hash of the task does not hang on them."""
    data = read_task(MNLI, mnli)
    assert {n: len(r) for n, r in data.companions.items()} == {"MNLI-mm": 2, "AX": 1}
    assert data.companions["AX"].labels.tolist() == [2]
    assert set(data.companion_hashes) == {"MNLI-mm", "AX"}
    (mnli / "diagnostic" / "diagnostic-full.tsv").unlink()
    (mnli / "MNLI" / "dev_mismatched.jsonl").write_bytes(nli(1, "neutral"))
    fewer = read_task(MNLI, mnli)
    assert (set(fewer.companions), fewer.data_hash) == ({"MNLI-mm"}, data.data_hash)
    assert fewer.companion_hashes["MNLI-mm"] != data.companion_hashes["MNLI-mm"]


def test_test_files_are_read_only_when_asked_for(mnli: Path) -> None:
    """QQP's has 390,965 rows, which nobody but the server scores."""
    assert read_task(MNLI, mnli).test == {}
    test = read_task(MNLI, mnli, test=True).test
    assert {n: len(r) for n, r in test.items()} == {"MNLI": 5, "MNLI-mm": 6, "AX": 1}
    assert all(rows.labels is None for rows in test.values())
    assert (test["AX"].text_a, test["AX"].ids) == (("A.",), ("0",))


def test_tags_of_train_and_dev_are_the_classes(tmp_path: Path) -> None:
    """CoNLL's own file names, without any ending that is known."""
    folder = tmp_path / "CoNLL-2003"
    folder.mkdir()
    (folder / "eng.train").write_text("-DOCSTART- -X- O O\n\nAnn NNP I-NP I-PER\nsat VBD I-VP O\n")
    (folder / "eng.testa").write_text("Bonn NNP I-NP I-LOC\n")
    data = read_task(CONLL, tmp_path)
    assert data.task.classes == ("I-LOC", "I-PER", "O")
    assert (data.task.outputs, data.train.labels.tolist(), data.dev.labels.tolist()) == (3, [1, 2], [0])


def test_a_race_is_a_folder_of_articles(tmp_path: Path) -> None:
    """Both schools together, and each by itself as a companion; the hash follows every file."""
    article = {
        "article": "A.",
        "options": [list("abcd"), list("efgh")],
        "questions": ["Is _ ?", "Why?"],
        "answers": ["B", "D"],
    }
    for part in ("train", "dev"):
        for school in ("middle", "high"):
            path = tmp_path / "RACE" / part / school / "1.txt"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps({**article, "id": f"{school}1.txt"}, indent=1))
    data = read_task(RACE, tmp_path)
    assert (len(data.train), len(data.dev)) == (4, 4)
    assert data.train.options[:2] == (
        ("Is a ?", "Is b ?", "Is c ?", "Is d ?"),
        ("Why? e", "Why? f", "Why? g", "Why? h"),
    )
    assert data.train.labels.tolist() == [1, 3, 1, 3]
    assert {n: r.ids for n, r in data.companions.items()} == {
        "RACE-middle": ("middle1.txt-0", "middle1.txt-1"), "RACE-high": ("high1.txt-0", "high1.txt-1"),
    }  # fmt: skip
    path.write_text(json.dumps({**article, "article": "B.", "id": "x"}))
    assert read_task(RACE, tmp_path).data_hash != data.data_hash


def test_swag_and_squad_are_found_under_their_published_names(tmp_path: Path) -> None:
    """A CSV with quotes, and the JSON of version 1.1."""
    (tmp_path / "SWAG").mkdir()
    table = ",sent1,sent2,ending0,ending1,ending2,ending3,label\n0,He sits.,He,a,"  # fmt: skip
    for name in ("train.csv", "val.csv"):
        (tmp_path / "SWAG" / name).write_text(table + '"b, ""so""",c,d,1\n')
    assert read_task(SWAG, tmp_path).train.options == (("He a", 'He b, "so"', "He c", "He d"),)
    (tmp_path / "SQuAD").mkdir()
    question = {"id": "q", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 3}]}
    squad = {"data": [{"paragraphs": [{"context": "By Ann.", "qas": [question]}]}]}
    for name in ("train-v1.1.json", "dev-v1.1.json"):
        (tmp_path / "SQuAD" / name).write_text(json.dumps(squad))
    dev = read_task(SQUAD, tmp_path).dev
    assert (dev.text_a, dev.text_b, dev.answers, dev.ids) == (("Who?",), ("By Ann.",), (("Ann",),), ("q",))
    assert missing(SQUAD, tmp_path) == ""
    (tmp_path / "SQuAD" / "dev-v1.1.json").unlink()
    assert missing(SQUAD, tmp_path) == "no dev file"
