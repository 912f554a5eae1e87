"""What stands in the files of a kept model, apart from its answers."""

import json

import pytest
import transformers

from gpuday.evaluate.huggingface import subject_of_folder
from gpuday.evaluate.protocols import P1
from gpuday.evaluate.subject import subject_of_run
from gpuday.export.parity import quiet
from tiny_models import write_model
from tuned import LENGTH, keep_one

OTHERS = {"auto_map": {"AutoModel": "evil.Model"}, "id2label": {"0": "a", "1": "b", "2": "evil"}}


def test_the_config_is_of_the_task_and_of_the_length_that_was_trained(bert, make_trained, tmp_path):
    """A reader of the folder sees class, labels, problem and the longest row; the encoder keeps its own length."""
    kept = keep_one(tmp_path / "kept", subject_of_run(make_trained(bert)), "regression")
    config = json.loads((kept.folder / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"] and config["problem_type"] == "regression"
    assert config["id2label"] == {"0": "value"} and config["max_position_embeddings"] == 48
    tokenizer = transformers.AutoTokenizer.from_pretrained(kept.folder)
    assert tokenizer.model_max_length == LENGTH


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_tokenizer_of_transformers_reads_as_before(family, tmp_path):
    """Ids, token types and cuts of a Hugging Face subject's own tokenizer, pairs and written special tokens included."""
    subject = subject_of_folder(write_model(tmp_path / "encoder", family), tmp_path / "scores")
    kept = keep_one(tmp_path / "kept", subject, "classification")
    with quiet():
        before, after = (transformers.AutoTokenizer.from_pretrained(f) for f in (tmp_path / "encoder", kept.folder))
    mask = before.mask_token
    for texts in (("The quick brown zebra",), ("a river", "it is behind the house " * 9), (f"a {mask} stands.",)):
        for most in (20, 500):
            wanted = dict(before(*texts, truncation=True, max_length=most))
            assert dict(after(*texts, truncation=True, max_length=most)) == wanted
    assert (after.pad_token, after.cls_token, after.sep_token) == (before.pad_token, before.cls_token, before.sep_token)


def test_nothing_of_the_class_before_stays_in_the_config(tmp_path):
    """Neither its architecture and labels, nor where its code would be found, nor its path."""
    path = write_model(tmp_path / "encoder", "bert") / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | OTHERS))
    subject = subject_of_folder(tmp_path / "encoder", tmp_path / "scores")
    text = (keep_one(tmp_path / "kept", subject, "span").folder / "config.json").read_text()
    assert "evil" not in text and str(tmp_path) not in text and "MaskedLM" not in text


def test_the_config_says_with_which_dropout_the_model_was_tuned(bert, make_trained, tmp_path):
    """Under every name, of an encoder of ours and of Transformers, in each of the formats: who tunes on tunes as before."""
    theirs = subject_of_folder(write_model(tmp_path / "bert", "bert"), tmp_path / "scores")
    other = subject_of_folder(write_model(tmp_path / "roberta", "roberta"), tmp_path / "scores")
    places = {"ours": "config.json", "theirs": "config.json", "foreign": "encoder/config.json"}
    subjects = {"ours": subject_of_run(make_trained(bert)), "theirs": theirs, "foreign": other}
    for name, subject in subjects.items():
        folder = keep_one(tmp_path / name, subject, "classification").folder
        config = json.loads((folder / places[name]).read_text())
        assert {config["hidden_dropout_prob"], config["attention_probs_dropout_prob"]} == {P1.dropout}, name
        assert P1.dropout > 0
