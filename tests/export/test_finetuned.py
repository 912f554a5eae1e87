"""Fine-tuned models as folders: what Transformers and `load_finetuned` make of them is what was scored."""

import json
from dataclasses import replace

import pytest
import torch
import transformers

from gpuday.core.clock import Budget
from gpuday.evaluate.encoding import encode
from gpuday.evaluate.huggingface import subject_of_folder
from gpuday.evaluate.subject import subject_of_run
from gpuday.evaluate.tasks.rows import Rows
from gpuday.export import finetuned
from gpuday.export.finetuned import FILES, head_for, is_kept, kept_folder
from gpuday.export.native import Renaming
from gpuday.export.parity import ParityError, quiet
from gpuday.export.predicting import load_finetuned
from gpuday.export.task_heads import NativeAnswer, auto
from gpuday.presets import find
from tiny_models import write_model
from toy_tasks import TASKS
from tuned import LENGTH, keep_one


@pytest.fixture(autouse=True)
def in_fp32(monkeypatch):
    """What fine-tuning computes in depends on the machine; in fp32 the kept model is the scored one."""
    monkeypatch.setattr("gpuday.evaluate.finetune.compute_dtype", lambda device: torch.float32)


@pytest.fixture
def crammed():
    """A recipe that no class of Transformers holds, tiny."""
    whole = find("crammed")("nano", Budget.parse("10m")).model
    return replace(whole, width=64, shape=replace(whole.shape, layers=2))


def predictions(folder):
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def check_repeated(kept):
    """The folder's predictions are what it says of the unlabelled rows, and what was scored."""
    written, again = predictions(kept.folder), load_finetuned(kept.folder).predict(replace(kept.data.dev, labels=None))
    rows = [{key: value for key, value in row.items() if key not in ("number", "id", "label")} for row in written]
    assert rows == list(again) and len(rows) == len(kept.data.dev)
    assert [row["number"] for row in written] == list(range(1, len(rows) + 1))
    assert kept.section["changed"] in (0.0, None)


@pytest.mark.parametrize(
    ("preset", "kind"),
    [*(("modern", kind) for kind in TASKS), ("bert", "classification"), ("bert", "tagging"), ("bert", "span")],
)
def test_a_kept_model_is_one_that_transformers_loads(preset, kind, make_trained, request, tmp_path):
    """The class of the task, our logits to fp32 rounding, the names of the classes, and the predictions of before."""
    subject = subject_of_run(make_trained(request.getfixturevalue(preset)))
    assert head_for(subject) == {"modern": "modernbert", "bert": "bert"}[preset]
    kept = keep_one(kept_folder(tmp_path, "toy", "P1", TASKS[kind][0].name, 0), subject, kind)
    section, place = kept.section, kept.folder
    assert section["format"] == "transformers" and section["parity_max_abs"] <= 1e-5 and section["reason"] == ""
    assert {path.name for path in place.iterdir()} < FILES and is_kept(place, kept.score)
    with quiet():
        model, found = getattr(transformers, auto(kind)).from_pretrained(place, output_loading_info=True)
    assert type(model).__name__ == section["architecture"] and not any(found.values())
    if kind in ("classification", "tagging"):
        assert model.config.id2label == dict(enumerate(kept.data.task.classes))
    rows = encode(subject, kept.data.task, kept.data.dev, LENGTH).encoded
    ids, mask, _ = rows.batch(torch.arange(len(rows)), LENGTH)
    with torch.inference_mode():
        ours, theirs = kept.tuned.model(ids, mask), NativeAnswer(model.eval(), kind)(ids, mask)
    real = mask if ours.dim() == 3 else mask[:, 0]
    torch.testing.assert_close(theirs[real], ours[real], atol=1e-5, rtol=0)
    check_repeated(kept)


@pytest.mark.parametrize("kind", ["classification", "choice"])
def test_a_model_of_the_mean_is_one_that_transformers_loads(kind, modern, make_trained, tmp_path):
    """ModernBERT's classes pool so too: its config says it, and its logits over padded rows are ours."""
    subject = subject_of_run(make_trained(modern))
    kept = keep_one(tmp_path / "kept", subject, kind, pooling="mean")
    assert kept.section["format"] == "transformers" and kept.section["parity_max_abs"] <= 1e-5
    with quiet():
        model = getattr(transformers, auto(kind)).from_pretrained(kept.folder).eval()
    assert model.config.classifier_pooling == "mean"
    rows = encode(subject, kept.data.task, kept.data.dev, LENGTH).encoded
    ids, mask, _ = rows.batch(torch.arange(len(rows)), LENGTH)
    assert not mask.all()
    with torch.inference_mode():
        ours, theirs = kept.tuned.model(ids, mask), NativeAnswer(model, kind)(ids, mask)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)
    check_repeated(kept)


def test_a_bert_of_the_mean_is_kept_in_our_own_format(tmp_path):
    """BERT's classes read position 0: the card says so, and of a user's own task, whose head follows, which flag makes a model
    that they hold."""
    subject = subject_of_folder(write_model(tmp_path / "encoder", "bert"), tmp_path / "scores")
    assert (head_for(subject), head_for(subject, "first"), head_for(subject, "mean")) == ("bert", "bert", "paper")
    pooled = replace(subject, pooling="mean")
    glue = keep_one(tmp_path / "glue", pooled, "regression")
    assert "read position 0" in glue.section["reason"] and "--pooling" not in glue.section["reason"]
    kept = keep_one(tmp_path / "kept", pooled, "regression", suite="own")
    assert kept.section["format"] == "gpuday" and "--pooling first" in kept.section["reason"]
    assert kept.section["reason"] in (kept.folder / "README.md").read_text()
    assert "| The head reads | the mean of a row's tokens |" in (kept.folder / "README.md").read_text()
    check_repeated(kept)


@pytest.mark.parametrize("kind", ["choice", "span"])
def test_what_no_class_holds_is_kept_in_our_own_format(kind, crammed, make_trained, tmp_path):
    """It loads, predicts the same, and says why it is no Hugging Face folder."""
    subject = subject_of_run(make_trained(crammed))
    assert head_for(subject) == "paper"
    kept = keep_one(tmp_path / "kept", subject, kind)
    assert kept.section["format"] == "gpuday" and kept.section["architecture"] is None
    assert kept.section["reason"] and kept.section["parity_max_abs"] == 0.0
    assert kept.section["reason"] in (kept.folder / "README.md").read_text()
    assert not (kept.folder / "config.json").exists()
    check_repeated(kept)


def test_another_head_than_the_class_has_is_kept_in_our_own_format(bert, make_trained, tmp_path):
    """P1's head on an encoder that BERT could hold."""
    kept = keep_one(tmp_path / "kept", subject_of_run(make_trained(bert)), "classification", "paper")
    assert kept.section["format"] == "gpuday" and "have the head bert" in kept.section["reason"]
    check_repeated(kept)


@pytest.mark.parametrize(("family", "kind"), [("modernbert", "tagging"), ("bert", "regression"), ("bert", "span")])
def test_a_hugging_face_encoder_stays_one(family, kind, tmp_path):
    """A folder goes in, and one of the same architecture with the task's head comes out; BERT's pairs have token types."""
    subject = subject_of_folder(write_model(tmp_path / "encoder", family), tmp_path / "scores")
    kept = keep_one(tmp_path / "kept", subject, kind)
    with quiet():
        model, found = getattr(transformers, auto(kind)).from_pretrained(kept.folder, output_loading_info=True)
    assert type(model).__name__ == kept.section["architecture"] and not any(found.values())
    assert kept.section["parity_max_abs"] <= 1e-5 and subject.reader.typed == (family == "bert")
    check_repeated(kept)


@pytest.mark.parametrize("family", ["electra", "roberta"])
def test_an_encoder_of_another_architecture_lies_inside_our_own_format(family, tmp_path):
    """The classes of these have other heads: the encoder is a folder of its own."""
    subject = subject_of_folder(write_model(tmp_path / "encoder", family), tmp_path / "scores")
    assert head_for(subject) == "paper"
    kept = keep_one(tmp_path / "kept", subject, "regression")
    assert kept.section["format"] == "gpuday" and kept.section["parity_max_abs"] <= 1e-5
    assert {path.name for path in kept.folder.iterdir()} < FILES
    check_repeated(kept)


def test_a_wrong_mapping_is_never_kept(modern, make_trained, monkeypatch, tmp_path):
    """Queries and values exchanged: nothing is left at the place, and the error is ours."""
    put = Renaming.put

    def exchanged(self, name, value):
        put(self, name, value.roll(64, dims=0) if name.endswith("Wqkv.weight") else value)

    monkeypatch.setattr(Renaming, "put", exchanged)
    with pytest.raises(ParityError, match="logits differ"):
        keep_one(tmp_path / "kept", subject_of_run(make_trained(modern)), "classification")
    assert not (tmp_path / "kept").exists() and not (tmp_path / ".kept.new").exists()


def test_a_folder_is_kept_for_its_own_score_only(modern, make_trained, tmp_path):
    """Another seed, or other weights, are another model."""
    kept = keep_one(tmp_path / "kept", subject_of_run(make_trained(modern)), "regression")
    assert is_kept(kept.folder, kept.score)
    assert not is_kept(kept.folder, replace(kept.score, seed=1))
    assert not is_kept(kept.folder, replace(kept.score, model_hash="other"))
    assert not is_kept(tmp_path / "nowhere", kept.score)


def test_labels_and_answers_are_shown_alike():
    """Names of classes, tags by row."""
    rows = Rows(text_a=("a b", "c"), words=(("a", "b"), ("c",)), labels=None)
    assert list(finetuned.shown(TASKS["tagging"][0], rows, [1, 0, 1])) == [["B-ANIMAL", "O"], ["B-ANIMAL"]]
    assert list(finetuned.shown(TASKS["classification"][0], rows, [1, 0])) == ["zebra", "mango"]
