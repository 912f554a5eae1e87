"""The heads under the names of Transformers: what computes the same is said to, and nothing else."""

import pytest
import torch
from torch import nn

from gpuday.evaluate.tasks.task import Task
from gpuday.export.task_heads import NativeAnswer, architecture, auto, fitting_head, settings, weights
from gpuday.models.downstream import Classifier, Spans, Tagger


class Body(nn.Module):
    """Has no weights of its own."""


@pytest.mark.parametrize(
    ("model_type", "eps", "head"),
    [
        ("bert", 1e-12, "bert"),
        ("modernbert", 1e-5, "modernbert"),
        ("modernbert", 1e-6, "paper"),  # its head would norm with that eps, ours with 1e-5
        ("roberta", 1e-5, "paper"),
        (None, 1e-5, "paper"),
    ],
)
def test_the_head_is_the_one_of_the_class(model_type, eps, head):
    """Where no class computes what we do, the head is the paper's."""
    assert fitting_head(model_type, eps) == fitting_head(model_type, eps, "first") == head
    assert fitting_head(model_type, eps, "mean") == ("paper" if head == "bert" else head)  # BERT's class has no mean


def test_a_class_is_named_by_architecture_and_kind():
    """As Transformers spells it."""
    assert architecture("bert", "regression") == "BertForSequenceClassification"
    assert architecture("modernbert", "choice") == "ModernBertForMultipleChoice"
    assert auto("tagging") == "AutoModelForTokenClassification"


def test_settings_name_the_classes_both_ways():
    """Readers of a folder find the label of a number, and the number of a label."""
    task = Task(name="mood", suite="own", classes=("bad", "good"))
    found = settings(task, "modernbert", dropout=0.25)
    assert found["id2label"] == {"0": "bad", "1": "good"} and found["label2id"] == {"bad": 0, "good": 1}
    assert found["problem_type"] == "single_label_classification" and found["classifier_dropout"] == 0.25
    assert (found["classifier_pooling"], found["classifier_bias"]) == ("cls", False)
    assert settings(task, "modernbert", dropout=0.25, pooling="mean") == {**found, "classifier_pooling": "mean"}
    assert "id2label" not in settings(Task(name="a", suite="own", kind="choice", options=2), "bert", dropout=0.0)


@pytest.mark.parametrize(
    ("model", "kind", "names"),
    [
        (
            Classifier(Body(), 8, 3, head="bert"),
            "classification",
            {"bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias"},
        ),
        (Spans(Body(), 8, head="bert"), "span", {"qa_outputs.weight", "qa_outputs.bias"}),
        (
            Tagger(Body(), 8, 3, head="modernbert"),
            "tagging",
            {"head.dense.weight", "head.norm.weight", "head.norm.bias", "classifier.weight", "classifier.bias"},
        ),
    ],
)
def test_weights_have_the_names_of_their_class(model, kind, names):
    """A norm with a bias where theirs has one: zeros, since ours has none."""
    found = weights(model, kind, norm_bias=True)
    assert found.keys() == names
    assert not found.get("head.norm.bias", torch.zeros(1)).any()


def test_candidates_are_asked_one_by_one():
    """A class for multiple choice sees rows of one candidate, so that its answers are those of our rows."""

    class Theirs(nn.Module):
        def forward(self, input_ids, attention_mask):
            assert input_ids.shape == attention_mask.shape == (6, 1, 4)
            return type("Answer", (), {"logits": input_ids[:, :, 0].float()})

    ids = torch.arange(24).view(6, 4)
    assert NativeAnswer(Theirs(), "choice")(ids, torch.ones_like(ids, dtype=torch.bool)).tolist() == [
        [0.0], [4.0], [8.0], [12.0], [16.0], [20.0]
    ]  # fmt: skip
