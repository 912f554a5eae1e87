import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from gpuday.core.errors import DataError
from gpuday.evaluate.minimal_pairs import Pair, accuracies, pairs_section, read_pairs, wilson
from gpuday.evaluate.pseudo_likelihood import log_likelihoods, pick_predictor, read_sentences
from gpuday.evaluate.subject import Subject

LINES = [
    {"sentence_good": "the zebra jumps", "sentence_bad": "the zebra jump", "pairID": "0"},
    {"sentence_good": "a mango falls", "sentence_bad": "a mango fall", "pairID": "1"},
]


def write(path: Path, lines: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two paradigms of one term and field, as BLiMP's folder has them."""
    write(tmp_path / "blimp" / "agreement_1.jsonl", LINES)
    write(tmp_path / "blimp" / "agreement_2.jsonl", LINES[:1])
    index = [
        {"file": f"agreement_{i}.jsonl", "UID": f"agree_{i}", "linguistics_term": "agreement", "field": field}
        for i, field in ((1, "syntax/semantics"), (2, "syntax_semantics"))
    ]
    (tmp_path / "blimp" / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return tmp_path / "blimp"


def test_a_folder_takes_paradigms_from_its_index(folder: Path) -> None:
    """UID, term and field of each file, the field in one spelling."""
    pairs = read_pairs(folder)
    assert pairs[0] == Pair("the zebra jumps", "the zebra jump", "agree_1", "agreement", "syntax_semantics", "0")
    assert [(p.uid, p.field) for p in pairs] == [("agree_1", "syntax_semantics")] * 2 + [
        ("agree_2", "syntax_semantics")
    ]


def test_a_line_may_say_its_paradigm_itself(tmp_path: Path) -> None:
    """As the official files do; a file that says nothing is one paradigm of its name."""
    own = {**LINES[0], "UID": "mine", "linguistics_term": "agreement", "field": "syntax"}
    (pair,) = read_pairs(write(tmp_path / "own.jsonl", [own]))
    assert (pair.uid, pair.term, pair.field) == ("mine", "agreement", "syntax")
    (pair,) = read_pairs(write(tmp_path / "plain.jsonl", LINES[:1]))
    assert (pair.uid, pair.term, pair.field) == ("plain", "", "")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"good": "a", "bad": "b"}', "it has good, bad"),
        ('{"sentence_good": "a", "sentence_bad": " "}', "without two sentences"),
        ('{"sentence_good": "a", "sentence_bad": 3}', "without two sentences"),
        ("[1]", "no JSON object"),
        ("{", "not JSON"),
        ("", "no pairs"),
    ],
)
def test_other_files_are_refused_by_line(tmp_path: Path, line: str, message: str) -> None:
    """The error names the line and what it has instead."""
    path = tmp_path / "x.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_pairs(path)


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A misspelt name is a fault of the command."""
    with pytest.raises(DataError, match="is not there"):
        read_pairs(tmp_path / "blmip")


def test_a_tie_is_wrong_and_means_are_over_paradigms() -> None:
    """Two paradigms of 4 and 1 pairs, worked out by hand."""
    pairs = [Pair("a", "b", uid, term, "f", "0") for uid, term in [("u", "t")] * 4 + [("v", "t")]]
    scores = np.array([(-1, -2), (-1, -2), (-1, -1), (-2, -1), (-1, -2)], dtype=float)
    found = accuracies(pairs, scores)
    assert (found["accuracy"], found["pairs_accuracy"], found["n"], found["ties"]) == (0.75, 0.6, 5, 1)
    assert found["paradigms"]["u"]["accuracy"] == 0.5 and found["paradigms"]["u"]["ties"] == 1
    assert (found["terms"]["t"]["accuracy"], found["terms"]["t"]["paradigms"]) == (0.75, 2)
    assert found["fields"]["f"]["n"] == 5


@pytest.mark.parametrize(("right", "n"), [(0, 5), (3, 7), (850, 1000), (1000, 1000)])
def test_the_interval_of_one_paradigm_is_wilsons(right: int, n: int) -> None:
    """As scipy computes it."""
    expected = binomtest(right, n).proportion_ci(method="wilson")
    found = wilson([right / n], [n])
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_interval_of_a_mean_covers_what_it_says() -> None:
    """Of 2,000 draws from paradigms of unlike shares and sizes about 95% hold the true mean."""
    draw, shares, sizes = np.random.default_rng(0), np.array([0.55, 0.9, 0.99]), np.array([30, 60, 20])
    hits = 0
    for _ in range(2000):
        found = wilson((draw.binomial(sizes, shares) / sizes).tolist(), sizes.tolist())
        hits += found.low <= shares.mean() <= found.high
    assert 0.93 <= hits / 2000 <= 0.97


@pytest.mark.parametrize("sizes", [[1] * 30, [1] * 10 + [200] * 10, [1, 400]])
def test_paradigms_of_one_pair_do_not_pass_for_certain(sizes: list[int]) -> None:
    """A share of 0 or 1 of one pair has a variance all the same: at least 92% of intervals hold the mean of 0.7."""
    draw, hits = np.random.default_rng(0), 0
    for _ in range(1000):
        found = wilson((draw.binomial(sizes, 0.7) / sizes).tolist(), sizes)
        hits += found.low <= 0.7 <= found.high
    assert hits / 1000 >= 0.92


def test_sets_go_by_their_whole_names(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two languages of one set are two, compressed or not, and a folder has its name from inside of it too."""
    for name in ("set.en.jsonl", "set.de.jsonl"):
        write(tmp_path / "blimp" / name, LINES)
    out = tmp_path / "out"
    names = [pairs_section(subject, tmp_path / "blimp" / f"set.{l}.jsonl", folder=out)["name"] for l in ("en", "de")]
    assert names == ["set.en", "set.de"] and len(list(out.iterdir())) == 4
    assert {pair.uid for pair in read_pairs(tmp_path / "blimp")} == {"set.en", "set.de"}
    monkeypatch.chdir(tmp_path / "blimp")
    section = pairs_section(subject, Path("."), folder=out)
    assert section["name"] == "blimp" and (out / section["scores"]).name == "blimp-within_word_l2r.jsonl"


def test_a_section_holds_what_its_file_of_scores_says(subject: Subject, folder: Path, tmp_path: Path) -> None:
    """Every pair's two sums are those of `log_likelihoods`, and the share is counted from them."""
    section = pairs_section(subject, folder, folder=tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / section["scores"]).read_text().splitlines()]
    assert [(line["UID"], line["pair"]) for line in lines] == [("agree_1", "0"), ("agree_1", "1"), ("agree_2", "0")]
    predictor, _ = pick_predictor(subject)
    sentences = [line[key] for line in (*LINES, LINES[0]) for key in ("sentence_good", "sentence_bad")]
    expected = log_likelihoods(subject, predictor, read_sentences(subject, sentences), "within_word_l2r").reshape(-1, 2)
    assert [[line["good"], line["bad"]] for line in lines] == pytest.approx(expected, abs=1e-3)
    assert section["pairs_accuracy"] == np.mean([line["good"] > line["bad"] for line in lines])
    assert json.loads(json.dumps(section)) == section


def test_an_answer_on_file_is_used_for_the_same_question_only(subject: Subject, folder: Path, tmp_path: Path) -> None:
    """The same weights and pairs are not asked again; another variant and other pairs are."""
    first = pairs_section(subject, folder, folder=tmp_path / "out")
    assert pairs_section(subject, folder, folder=tmp_path / "out") == first
    other = pairs_section(subject, folder, variant="original", folder=tmp_path / "out")
    assert (other["variant"], other["seconds"] != first["seconds"]) == ("original", True)
    write(folder / "agreement_2.jsonl", LINES)
    again = pairs_section(subject, folder, folder=tmp_path / "out")
    assert (first["n"], again["n"]) == (3, 4)
    (tmp_path / "out" / "blimp-within_word_l2r.json").write_text("{")
    assert pairs_section(subject, folder, folder=tmp_path / "out")["n"] == 4
