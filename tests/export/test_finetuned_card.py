"""The card of a kept model says what its score's file says."""

from dataclasses import replace

import pytest

from gpuday.evaluate.intervals import Interval
from gpuday.evaluate.subject import subject_of_run
from gpuday.export.finetuned_card import write_finetuned_card
from gpuday.export.kept import read_kept
from tuned import keep_one


@pytest.fixture
def kept(modern, make_trained, tmp_path):
    return keep_one(tmp_path / "kept", subject_of_run(make_trained(modern)), "classification")


def test_the_card_names_task_protocol_score_and_how_to_load_it(kept):
    """The value with its interval over rows, the baseline beside it, the parity, and the class of Transformers."""
    interval = Interval(low=0.25, high=0.75, confidence=0.95, method="BCa", n=9)
    section = {**kept.section, "changed": 0.125}
    text = write_finetuned_card(
        read_kept(kept.folder), score=kept.score, data=kept.data, interval=interval, section=section
    )
    assert (
        "AutoModelForSequenceClassification.from_pretrained" in text and "`ModernBertForSequenceClassification`" in text
    )
    assert f"| Dev accuracy | {kept.score.value:.3f} (0.250 to 0.750 at 95%) |" in text
    assert "| Dev accuracy, majority | 0.250 |" in text and "| Classes | mango, zebra |" in text
    assert "| Dev rows answered otherwise in fp32 than when scored | 12.50% |" in text
    assert '"lr": 0.001' in text and "protocol `P1`" in text


def test_the_lines_of_the_card_use_this_folder(kept):
    """As it was named; of an absolute path what begins with the run's folder, since folders tell of their owner."""
    said = {
        "runs/demo/finetuned/own/a b/0": "runs/demo/finetuned/own/a b/0",
        "/home/x/demo/finetuned/own/a b/0": "demo/finetuned/own/a b/0",
    }
    for folder, shown in said.items():
        section = {**kept.section, "folder": folder}
        text = write_finetuned_card(
            read_kept(kept.folder), score=kept.score, data=kept.data, interval=None, section=section
        )
        assert (
            f'.from_pretrained("{shown}")' in text and f"gpuday predict '{shown}' new.csv --out answers.jsonl" in text
        )
        assert "FOLDER" not in text and "/home" not in text


def test_a_hostile_name_stays_text(kept):
    """Classes and tasks come from a user's file: no markdown, HTML or YAML of theirs acts."""
    described = replace(read_kept(kept.folder), task="<script>x</script>\n---\n# big", classes=("[a](http://b)", "`c`"))
    text = write_finetuned_card(described, score=kept.score, data=kept.data, interval=None, section=kept.section)
    assert "<script>" not in text.split("## Use")[0].replace("`<script>x</script> --- # big`", "")
    assert "\n# big" not in text and "[a](http" not in text and text.count("\n---\n") == 1
