"""What a native Hugging Face class is to an export: its requirements, its config and its names of our weights.

A recipe is exported only into a class that holds it exactly; every axis that does not fit is named.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gpuday.core.errors import GpudayError
from gpuday.core.parts import Part, name_of
from gpuday.models.encoder import EncoderConfig
from gpuday.models.heads import MaskedLM


@dataclass(frozen=True, kw_only=True)
class Specials:
    """Token ids that a native config names."""

    pad: int
    cls: int
    sep: int


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """An axis of EncoderConfig (a dotted path), the test it must pass, and what the native class has there."""

    axis: str
    fits: Callable[[EncoderConfig], bool]
    reason: str

    def obstacle(self, config: EncoderConfig) -> str | None:
        """'<axis> is <value>: <reason>' where the config does not fit, else None."""
        if self.fits(config):
            return None
        value: Any = config
        for name in self.axis.split("."):
            value = getattr(value, name)
        shown = name_of(type(value)) if isinstance(value, Part) else str(value)
        return f"{self.axis} is {shown}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class Native:
    """One class of Transformers that can hold some of our encoders."""

    kind: str
    """Its `model_type`."""
    masked_lm: str
    """Its class for masked language modelling."""
    requirements: tuple[Requirement, ...]
    """What an EncoderConfig must satisfy."""
    settings: Callable[[MaskedLM, Specials], dict[str, Any]]
    """The content of config.json, but for what all kinds share."""
    weights: Callable[[MaskedLM], dict[str, Tensor]]
    """Our weights under its names, fp32 on the CPU."""

    def obstacles(self, config: EncoderConfig) -> list[str]:
        """Why this class cannot hold the config, one sentence an axis; empty when it can."""
        found = (requirement.obstacle(config) for requirement in self.requirements)
        return [sentence for sentence in found if sentence is not None]

    def config(self, model: MaskedLM, specials: Specials, *, version: str) -> dict[str, Any]:
        """The whole config.json, `version` being that of Transformers."""
        return {
            "architectures": [self.masked_lm],
            "model_type": self.kind,
            "vocab_size": model.vocab,
            "hidden_size": model.config.width,
            "num_hidden_layers": model.config.shape.depth,
            "max_position_embeddings": model.length,
            "initializer_range": model.config.init_std,
            "tie_word_embeddings": model.config.tied,
            "dtype": "float32",
            "torch_dtype": "float32",  # the fourth major version's name of the line above
            "transformers_version": version,
            **self.settings(model, specials),
        }


class Renaming:
    """Moves tensors of a state dict to new names, and refuses to finish while one of ours is left behind."""

    def __init__(self, model: MaskedLM) -> None:
        self._ours: dict[str, Tensor] = {
            name: value.detach().float().cpu() for name, value in model.state_dict().items()
        }
        self._theirs: dict[str, Tensor] = {}

    def take(self, name: str) -> Tensor | None:
        """Our tensor `name`, counted as moved; None where the model has none of that name."""
        return self._ours.pop(name, None)

    def need(self, name: str) -> Tensor:
        """`take` of a tensor that must exist."""
        value = self.take(name)
        if value is None:
            raise GpudayError(f"the model has no weight {name!r}", fix="its config passed the export's requirements")
        return value

    def put(self, name: str, value: Tensor | None) -> None:
        """Their tensor `name`, in memory of its own; None puts nothing."""
        if value is not None:
            self._theirs[name] = value.clone(memory_format=torch.contiguous_format)

    def move(self, ours: str, theirs: str, *, zero_bias: bool = False) -> None:
        """A layer's weight and, where it has one, its bias; `zero_bias` adds zeros where theirs always has one."""
        weight, bias = self.need(f"{ours}.weight"), self.take(f"{ours}.bias")
        self.put(f"{theirs}.weight", weight)
        self.put(f"{theirs}.bias", torch.zeros(weight.shape[0]) if bias is None and zero_bias else bias)

    def finish(self) -> dict[str, Tensor]:
        """All of their tensors."""
        if self._ours:
            raise GpudayError(f"the export forgot the weights {sorted(self._ours)}", fix="report this as a fault")
        return self._theirs
