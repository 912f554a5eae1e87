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
from gpuday.models.downstream import Pooling
from gpuday.models.encoder import Encoder
from gpuday.models.heads import MaskedLM
from gpuday.train.compiling import start_compiler
from gpuday.train.device import first_line, is_out_of_memory
from gpuday.train.trained import Trained

_EAGER = "masked tokens are predicted eager, which is slower: "  # and why


class Predictor(Interface):
    """Predicts masked tokens, in evaluation mode and without gradients."""

    def logits(self, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """ids [B, L] int64, mask [B, L] bool, positions [P] int64 into the flattened B L -> logits [P, V] fp32."""
        ...

    def logits_at(self, ids: Tensor, places: Tensor) -> Tensor:
        """ids [B, L] int64 without padding, places [B] int64, one in each row -> logits [B, V] fp32: at less cost."""
        ...

    def compile(self, notice: Callable[[str], None]) -> None:
        """Have `logits_at` compiled for rows of any length: pays over very many calls. Where that cannot be done, at once or
        in one of them, it answers eager, and says why in a notice."""
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
    pooling: Pooling | None = "first"
    """What the head of a task of whole rows reads, unless another is asked for; None where the folder has one that is not here."""
    no_pooling: str = ""
    """Why there is none."""
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
        self._compiled: Callable[[Tensor, Tensor], Tensor] | None = None

    @torch.inference_mode()
    def logits(self, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        return self._model.predict(self._model.encoder(ids, mask), positions).float()

    @torch.inference_mode()
    def logits_at(self, ids: Tensor, places: Tensor) -> Tensor:
        return self._at(ids, places[:, None])[:, 0].float()

    def compile(self, notice: Callable[[str], None]) -> None:
        if fault := start_compiler(self._model.encoder.embedding.weight.device):
            notice(_EAGER + fault)
            return
        self._compiled, self._notice = torch.compile(self._model.at, dynamic=True), notice

    def _at(self, ids: Tensor, places: Tensor) -> Tensor:
        if self._compiled is not None:
            try:
                return self._compiled(ids, places)
            except Exception as error:  # another length may need a kernel that cannot be built
                if is_out_of_memory(error):
                    raise
                self._compiled = None
                self._notice(_EAGER + first_line(error))
        return self._model.at(ids, places)
