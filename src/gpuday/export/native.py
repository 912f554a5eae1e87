"""What a native Hugging Face class is to an export: its requirements, its config and its names of our weights.

A recipe is exported only into a class that holds it exactly; every axis that does not fit is named, and beside it the
nearest value that does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from gpuday.core.errors import GpudayError
from gpuday.core.parts import Part, name_of
from gpuday.models.encoder import EncoderConfig
from gpuday.models.heads import MaskedLM
from gpuday.models.mixers.softmax import Softmax

BLOCKS = "encoder.stack.blocks"
STD = 0.02  # of heads that Transformers adds to a model whose own weights began at zero: it divides by it


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
    nearest: Any
    """The value that the axis may have."""
    head: bool = False
    """Whether it concerns the head for masked tokens alone."""

    def obstacle(self, config: EncoderConfig) -> str | None:
        """'<axis> is <value>: <reason> (nearest: <value>)' where the config does not fit, else None."""
        if self.fits(config):
            return None
        value: Any = config
        for name in self.axis.split("."):
            value = getattr(value, name)
        return f"{self.axis} is {_shown(value)}: {self.reason} (nearest: {_shown(self.nearest)})"


def _shown(value: Any) -> str:
    """As a recipe's file writes it; a part by its name."""
    if isinstance(value, Part):
        return name_of(type(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def shared_requirements(name: str) -> tuple[Requirement, ...]:
    """What every class of softmax attention between LayerNorms asks for; `name` is the class's for readers."""

    def mixer(knob: str, nearest: Any, reason: str) -> Requirement:
        def fits(config: EncoderConfig) -> bool:
            return type(config.mixer) is not Softmax or getattr(config.mixer, knob) == nearest

        return Requirement(axis=f"mixer.{knob}", fits=fits, reason=reason, nearest=nearest)

    def axis(axis: str, nearest: Any, reason: str, *, head: bool = False) -> Requirement:
        return Requirement(
            axis=axis, fits=lambda c: bool(getattr(c, axis) == nearest), reason=reason, nearest=nearest, head=head
        )

    return (
        Requirement(
            axis="mixer",
            fits=lambda c: type(c.mixer) is Softmax,
            reason=f"{name} mixes by softmax attention in every layer",
            nearest=Softmax(),
        ),
        mixer("qk_norm", "none", f"{name} does not norm queries and keys"),
        mixer("value_residual", False, f"a layer of {name} has no values but its own"),
        mixer("cap", 0.0, f"{name} does not cap its scores"),
        mixer("gate", False, f"{name} has no gate on its heads"),
        axis("block", "sequential", f"{name}'s network follows the mixer"),
        axis("skip", "none", f"nothing passes over blocks of {name}"),
        axis("norm", "layernorm", f"{name}'s norms are LayerNorm, which centres"),
        axis(
            "embedding_width",
            0,
            f"{name} norms its embedding at full width, where this one is normed before its projection",
        ),
        axis("embedding_norm", True, f"{name} norms its embedding"),
        axis("logit_cap", 0.0, f"{name} does not cap its logits: ranks would stay, probabilities would not", head=True),
    )


class Moves(Protocol):
    """Our weights under a class's names; with its head for masked tokens, or the encoder's alone."""

    def __call__(self, model: MaskedLM, /, *, head: bool) -> dict[str, Tensor]: ...


@dataclass(frozen=True, kw_only=True)
class Native:
    """One class of Transformers that can hold some of our encoders."""

    kind: str
    """Its `model_type`."""
    masked_lm: str
    """Its class for masked language modelling."""
    encoder: str
    """Its class without a head."""
    prefix: str
    """What begins the names of the encoder's weights in classes with a head."""
    requirements: tuple[Requirement, ...]
    """What an EncoderConfig must satisfy."""
    settings: Callable[[MaskedLM, Specials], dict[str, Any]]
    """The content of config.json, but for what all kinds share."""
    moves: Moves
    """Our weights under the names of its class for masked language modelling, fp32 on the CPU."""

    def obstacles(self, config: EncoderConfig, *, head: bool = True) -> list[str]:
        """Why this class cannot hold the config, one sentence an axis; empty when it can."""
        found = (wants.obstacle(config) for wants in self.requirements if head or not wants.head)
        return [sentence for sentence in found if sentence is not None]

    def config(self, model: MaskedLM, specials: Specials, *, version: str, head: bool = True) -> dict[str, Any]:
        """The whole config.json, `version` being that of Transformers."""
        return {
            "architectures": [self.masked_lm if head else self.encoder],
            "model_type": self.kind,
            "vocab_size": model.vocab,
            "hidden_size": model.config.width,
            "num_hidden_layers": model.config.shape.depth,
            "max_position_embeddings": model.length,
            "initializer_range": model.config.init_std or STD,
            "tie_word_embeddings": model.config.tied,
            "dtype": "float32",
            "torch_dtype": "float32",  # the fourth major version's name of the line above
            "transformers_version": version,
            **self.settings(model, specials),
        }

    def weights(self, model: MaskedLM, *, head: bool = True) -> dict[str, Tensor]:
        """The state dict of the equal model, as `save_pretrained` would write it."""
        moved = self.moves(model, head=head)
        return moved if head else {name.removeprefix(self.prefix): value for name, value in moved.items()}


class Renaming:
    """Moves tensors of a state dict to new names, and refuses to finish while one of ours is left behind.

    A block that is passed several times stands there once for each passage: the native classes have no shared blocks.
    """

    def __init__(self, model: MaskedLM) -> None:
        self._width, self._theirs = model.config.width, dict[str, Tensor]()
        self._ours = {
            ours: value.detach().float().cpu()
            for name, value in model.state_dict().items()
            for ours in _unrolled(name, model.config)
        }

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

    def move(self, ours: str, theirs: str, *, zero_bias: bool = False, gain: float = 1.0) -> None:
        """A layer's weight times `gain` and, where it has one, its bias; `zero_bias` adds zeros where theirs always has
        one."""
        weight, bias = self.need(f"{ours}.weight"), self.take(f"{ours}.bias")
        self.put(f"{theirs}.weight", gain * weight)
        self.put(f"{theirs}.bias", torch.zeros(weight.shape[0]) if bias is None and zero_bias else bias)

    def move_norm(self, ours: str, theirs: str, *, bias: bool, gain: float = 1.0) -> None:
        """A norm's scale and, where theirs has a `bias`, its shift, both times `gain`; ones and zeros where ours has none."""
        scale, shift = self.take(f"{ours}.weight"), self.take(f"{ours}.bias")
        self.put(f"{theirs}.weight", gain * (torch.ones(self._width) if scale is None else scale))
        if bias or shift is not None:
            self.put(f"{theirs}.bias", gain * (torch.zeros(self._width) if shift is None else shift))

    def leave(self, prefix: str) -> None:
        """Leave all tensors of ours behind whose names begin so."""
        self._ours = {name: value for name, value in self._ours.items() if not name.startswith(prefix)}

    def finish(self) -> dict[str, Tensor]:
        """All of their tensors."""
        if self._ours:
            raise GpudayError(f"the export forgot the weights {sorted(self._ours)}", fix="report this as a fault")
        return self._theirs


def _unrolled(name: str, config: EncoderConfig) -> list[str]:
    """A weight's names with blocks numbered by passage."""
    if not name.startswith(f"{BLOCKS}."):
        return [name]
    layer, _, rest = name.removeprefix(f"{BLOCKS}.").partition(".")
    passages = [at for at, passed in enumerate(config.shape.passes) if passed.layer == int(layer)]
    return [f"{BLOCKS}.{at}.{rest}" for at in passages]


def hidden_width(model: MaskedLM) -> int:
    """Of the feed-forward networks; 1 where there are none, since no native class goes without."""
    downs = (value for name, value in model.state_dict().items() if name.endswith("feedforward.down.weight"))
    return next((down.shape[1] for down in downs), 1)
