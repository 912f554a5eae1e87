"""Heads of downstream tasks under the names of Hugging Face's classes, which compute the same: BERT's pooler is the `bert`
head, ModernBERT's prediction head the `modernbert` one. Neither has a class for the head of the paper.
"""

from typing import Any

import torch
from torch import Tensor, nn

from gpuday.evaluate.tasks.task import Kind, Task
from gpuday.models.downstream import NORM_EPS, Classifier, Head, Pooling, Spans, Tagger
from gpuday.models.linear import Linear

Headed = Classifier | Tagger | Spans

_ENDINGS: dict[Kind, str] = {
    "classification": "ForSequenceClassification",
    "regression": "ForSequenceClassification",
    "choice": "ForMultipleChoice",
    "tagging": "ForTokenClassification",
    "span": "ForQuestionAnswering",
}
_BEGINNINGS = {"bert": "Bert", "modernbert": "ModernBert"}
_PROBLEMS: dict[Kind, str] = {"classification": "single_label_classification", "regression": "regression"}
LARGEST_DIFFERENCE = 1e-9  # of two norms' eps that count as one: a folder writes its own in decimals


def fitting_head(model_type: object, norm_eps: object, pooling: Pooling | None = None) -> Head:
    """The head that the classes of a `model_type` of Transformers have; "paper" where none of ours is like theirs.

    ModernBERT's classes norm in their head with the eps of their encoder, our head with its own. Those of BERT read whole
    rows from position 0 alone; `pooling` is None for a head of tokens.
    """
    if model_type == "bert":
        return "paper" if pooling == "mean" else "bert"
    if model_type == "modernbert" and isinstance(norm_eps, float) and abs(norm_eps - NORM_EPS) < LARGEST_DIFFERENCE:
        return "modernbert"
    return "paper"


def architecture(head: Head, kind: Kind) -> str:
    """Name of the class that holds an encoder under this head."""
    return _BEGINNINGS[head] + _ENDINGS[kind]


def auto(kind: Kind) -> str:
    """Name of the class of Transformers that finds it."""
    return f"AutoModel{_ENDINGS[kind]}"


def settings(task: Task, head: Head, *, dropout: float, pooling: Pooling = "first") -> dict[str, Any]:
    """What config.json says of the head."""
    labels = {"classification": task.classes, "tagging": task.classes, "regression": ("value",)}.get(task.kind)
    found: dict[str, Any] = {"architectures": [architecture(head, task.kind)], "classifier_dropout": dropout}
    if labels is not None:
        found |= {"id2label": {str(i): name for i, name in enumerate(labels)}}
        found |= {"label2id": {name: i for i, name in enumerate(labels)}}
    if task.kind in _PROBLEMS:
        found["problem_type"] = _PROBLEMS[task.kind]
    if head == "modernbert":
        found |= {"classifier_pooling": "cls" if pooling == "first" else "mean"}
        found |= {"classifier_bias": False, "classifier_activation": "gelu"}
    return found


def weights(model: Headed, kind: Kind, *, norm_bias: bool) -> dict[str, Tensor]:
    """The head's weights under the names of its class, fp32 on the CPU; `norm_bias`: their norm has a bias, ours none."""
    found: dict[str, Tensor] = {}

    def put(layer: Linear | nn.Module | None, name: str) -> None:
        for part, value in () if layer is None else layer.named_parameters():
            found[f"{name}.{part}"] = value.detach().float().cpu().clone()

    put(model.dense, "head.dense" if model.head == "modernbert" else "bert.pooler.dense")
    put(model.norm if model.head == "modernbert" else None, "head.norm")
    if model.head == "modernbert" and norm_bias:
        found["head.norm.bias"] = torch.zeros_like(found["head.norm.weight"])
    put(model.output, "qa_outputs" if (model.head, kind) == ("bert", "span") else "classifier")
    return found


class NativeAnswer(nn.Module):
    """A model of Transformers, called as our own are: logits [B, C] of rows, or [B, L, C] of their tokens."""

    def __init__(self, model: nn.Module, kind: Kind) -> None:
        super().__init__()
        self.model, self.kind = model, kind

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        given = {"input_ids": ids, "attention_mask": mask.long()}
        if types is not None:
            given["token_type_ids"] = types
        if (
            self.kind == "choice"
        ):  # each candidate as a row of one: the shape of what is compared is not the model's matter
            given = {name: value[:, None] for name, value in given.items()}
        answer = self.model(**given)
        if self.kind == "span":
            return torch.stack((answer.start_logits, answer.end_logits), dim=-1).float()
        logits: Tensor = answer.logits.float()
        return logits
