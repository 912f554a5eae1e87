"""Which loss a predicted token costs: one value that every objective that predicts tokens shares.

Shapes: V vocabulary. Logits z [V] of a position with label y, p = softmax(z), Z the sum of exp(z), q the label's p.

- cross_entropy: -log q; with `smoothing` e against (1 - e) one-hot + e / V (Szegedy et al., arXiv 1512.00567).
- focal: -(1 - q)^gamma log q (Lin et al., arXiv 1708.02002).
- mse: (`label_weight` (z_y - label_logit)^2 + sum of the other z^2) / V, on logits (Hui & Belkin, arXiv 2006.07322, whose
  15 and 30 for problems of many classes are the defaults; 1 and 1 are the plain squared error against one-hot).
- `z_loss` adds z_loss log^2 Z to either of the first two (Chowdhery et al., arXiv 2204.02311; Zoph et al., arXiv
  2202.08906).
"""

from dataclasses import dataclass
from typing import Any, Literal

from gpuday.core.errors import UsageError, within

KINDS_OF: dict[str, tuple[str, ...]] = {
    "smoothing": ("cross_entropy",),
    "z_loss": ("cross_entropy", "focal"),
    "gamma": ("focal",),
    "label_weight": ("mse",),
    "label_logit": ("mse",),
}


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What training minimises at a predicted token; the held-out question stays plain cross-entropy."""

    kind: Literal["cross_entropy", "focal", "mse"] = "cross_entropy"
    """Its formula."""
    smoothing: float = 0.0
    """Share of the target that is spread over the whole vocabulary, of cross_entropy."""
    z_loss: float = 0.0
    """Times the squared logarithm of the softmax's denominator, added to cross_entropy and focal."""
    gamma: float = 2.0
    """How fast tokens that are known already lose weight, of focal."""
    label_weight: float = 15.0
    """Weight of the label's squared error beside that of any other entry, of mse."""
    label_logit: float = 30.0
    """What the label's logit is to become, of mse; the others are to become 0."""

    def __post_init__(self) -> None:
        within(
            "",
            smoothing=(self.smoothing, 0.0, 0.999),
            z_loss=(self.z_loss, 0.0, 10.0),
            gamma=(self.gamma, 0.0, 100.0),
            label_weight=(self.label_weight, 1e-6, 1e6),
            label_logit=(self.label_logit, 1e-6, 1e6),
        )
        for name, kinds in KINDS_OF.items():
            if self.kind not in kinds and getattr(self, name) != getattr(Loss, name):
                raise UsageError(
                    f"{name} is no axis of the loss {self.kind}",
                    where=name,
                    fix=f"leave it out, or set kind to {' or '.join(kinds)}",
                )

    def refuse_cap(self, model: Any) -> None:
        """Raise UsageError where a model's logits cannot become what this loss wants them to be."""
        cap = model.decoder().cap
        if self.kind == "mse" and 0.0 < cap <= self.label_logit:
            raise UsageError(
                f"label_logit {self.label_logit} is out of reach below a logit cap of {cap}",
                where="objective.loss.label_logit",
                fix="give a smaller one, or set model.logit_cap to 0",
            )


PLAIN = Loss()  # cross-entropy of the label
