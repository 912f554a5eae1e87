"""What is evaluated: an encoder with its tokenizer, be it of a run of gpuday or of a Hugging Face folder.

Shapes: B rows, L positions, D width, P predicted positions, V vocabulary.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from typing import Protocol as Interface

import torch
import xxhash
from torch import Tensor, nn

from gpuday.core import config
from gpuday.evaluate.reading import Reader, reader_of_run
from gpuday.models.encoder import Encoder
from gpuday.models.heads import MaskedLM
from gpuday.train.trained import Trained


class Predictor(Interface):
    """Predicts masked tokens, in evaluation mode and without gradients."""

    def logits(self, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """ids [B, L] int64, mask [B, L] bool, positions [P] int64 into the flattened B L -> logits [P, V] fp32."""
        ...


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An encoder to fine-tune and to ask. Nothing that is done to a copy of it changes the subject."""

    name: str
    kind: Literal["run", "huggingface"]
    reader: Reader
    width: int
    """D."""
    length: int
    """Tokens of the longest row."""
    device: torch.device
    model_hash: str
    """xxh3-128 of the weights; of a folder also of its config, its tokenizer and the longest row."""
    recipe_fingerprint: str | None
    """None for what no recipe made."""
    scores: Path
    """Folder of the score files."""
    make_body: Callable[[float, torch.dtype], nn.Module]
    """(dropout, dtype) -> a new copy on the device."""
    make_predictor: Callable[[torch.dtype], Predictor] | None
    """dtype -> predictor; None where no head for masked tokens was trained."""
    no_predictor: str = ""
    """Why there is none."""
    headless: str = ""
    """Why what is predicted says nothing of whole sentences under this encoder, though there is a predictor."""
    framed: tuple[bool, bool] = (True, True)
    """Whether special tokens stood before and after a document when masked tokens were trained."""

    def body(self, *, dropout: float, dtype: torch.dtype) -> nn.Module:
        """A new copy of the encoder: (ids [B, L] int64, mask [B, L] bool, types [B, L] int64 or None) -> [B, L, D] in dtype.

        Its weights are fp32 whatever the dtype it computes in; every dropout probability is `dropout`.
        """
        return self.make_body(dropout, dtype)

    def predictor(self, dtype: torch.dtype = torch.float32) -> Predictor | None:
        """What predicts masked tokens, computing in dtype; None where nothing does: see `no_predictor`."""
        return None if self.make_predictor is None else self.make_predictor(dtype)


def subject_of_run(trained: Trained) -> Subject:
    """A finished run. Its bodies are `Encoder`s, which take no token types."""
    source, device = trained.model.encoder, trained.device

    def body(dropout: float, dtype: torch.dtype) -> nn.Module:
        encoder = Encoder(replace(source.config, dropout=dropout), vocab=source.vocab, length=source.length)
        encoder.load_state_dict(source.state_dict())
        encoder.dtype = dtype
        return encoder.to(device)

    return Subject(
        name=trained.run.root.name,
        kind="run",
        reader=reader_of_run(trained.tokenizer),
        width=source.config.width,
        length=source.length,
        device=device,
        model_hash=hash_weights(trained.model),
        recipe_fingerprint=config.fingerprint(trained.recipe),
        scores=trained.run.scores,
        make_body=body,
        make_predictor=lambda dtype: _RunPredictor(trained.predictor, dtype),
        headless=_why_headless(trained),
        framed=(trained.recipe.data.cls, trained.recipe.data.sep),
    )


def _why_headless(trained: Trained) -> str:
    """Why a run is not asked for masked tokens; empty where it is."""
    if trained.generator is not None:
        return "it was trained to tell replaced tokens, and its generator, another encoder, predicts masked ones"
    if trained.model.shifted:
        return "it predicts a token from the position before it, and the first of a sentence has none"
    return ""


def hash_weights(model: nn.Module) -> str:
    """xxh3-128 of the names, shapes and bytes of all parameters."""
    return hash_tensors(model.named_parameters())


def hash_tensors(named: Iterable[tuple[str, Tensor]]) -> str:
    """xxh3-128 of the names, shapes, dtypes and bytes of tensors, sorted by name."""
    digest = xxhash.xxh3_128()
    for name, tensor in sorted(named, key=lambda pair: pair[0]):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class _RunPredictor:
    def __init__(self, model: MaskedLM, dtype: torch.dtype) -> None:
        if dtype != model.encoder.dtype:
            model = copy.deepcopy(model)
            model.encoder.dtype = dtype
        self._model = model.eval()

    @torch.inference_mode()
    def logits(self, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        return self._model.predict(self._model.encoder(ids, mask), positions).float()
