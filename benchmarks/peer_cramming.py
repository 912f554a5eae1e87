"""The original cramming code as a peer, from a checkout that the user names; nothing of it is part of this repository.

Its model files are imported by path, without its package's own imports, and its step is made as its engine makes it:
autocast around the forward pass where it is on, loss over the number of micro-batches, a look at the loss after each,
clipping at 0.5, AdamW; the model in evaluation mode, as `pretrain_in_train_mode: False` has it. On a CPU the engine
turns mixed precision off, so that fp32 is what it ships; bf16 is what a user gets who changes that one line.
"""

import importlib
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measure import Spread, alternate, need
from peer_trainer import WARM_UP
from torch import Tensor, nn
from workload import Workload, fixed_inputs

from gpuday.train.device import pick_device, synchronise

PACKAGE = "cramming_checkout"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The engine's switches."""

    bf16: bool
    compile: bool = False


ARMS = {
    "cramming fp32": Setting(bf16=False),
    "cramming bf16": Setting(bf16=True),
    "cramming bf16 compiled": Setting(bf16=True, compile=True),
}


def cramming_seconds(
    name: str, checkout: Path, work: Workload, between: Callable[[], object], *, rounds: int
) -> Spread:
    """Seconds of a step, with `between` called after each."""
    setting, device = ARMS[name], pick_device()
    model: nn.Module = build(checkout, work).to(device).eval()
    if setting.compile:
        model = _compiled(model, checkout)
    step = _step(model, work, device, bf16=setting.bf16)
    return alternate({"theirs": step, "between": between}, rounds=rounds, warm_up=WARM_UP)["theirs"]


def build(checkout: Path, work: Workload) -> nn.Module:
    """crammed-bert at our shape: pre-norm, scaled sinusoidal positions, gated network, no biases, sparse prediction."""
    folder = checkout / "cramming" / "architectures"
    if not (folder / "crammed_bert.py").is_file():
        sys.exit(f"{checkout} is no checkout of the cramming code: it has no cramming/architectures/crammed_bert.py")
    need("omegaconf", "the original cramming code")
    need("einops", "the original cramming code")
    from omegaconf import OmegaConf

    package = types.ModuleType(PACKAGE)
    package.__path__ = [str(folder)]  # its __init__ would import data sets and launchers
    sys.modules[PACKAGE] = package
    module: Any = importlib.import_module(f"{PACKAGE}.crammed_bert")
    share = work.recipe.objective.predicted(work.length, 1.0, work.kind) / work.length
    whole = OmegaConf.create(
        {
            "arch": OmegaConf.load(checkout / "cramming" / "config" / "arch" / "crammed-bert.yaml"),
            "train": {"objective": {"mlm_probability": share}},
        }
    )
    model = work.recipe.model
    whole.arch.num_transformer_layers = model.shape.depth
    whole.arch.hidden_size = model.width
    whole.arch.intermed_size = round(model.feedforward.flops_per_token(model.width) / (3 * model.width))
    whole.arch.attention.num_attention_heads = model.width // 64
    whole.arch.embedding.max_seq_length = work.length
    made: nn.Module = module.construct_crammed_bert(whole.arch, work.vocab)
    return made


def _compiled(model: nn.Module, checkout: Path) -> nn.Module:
    """Compiled with the checkout's own settings; those that this compiler no longer knows are left out."""
    import torch._inductor.config as inductor
    from omegaconf import OmegaConf

    settings = OmegaConf.load(checkout / "cramming" / "config" / "impl" / "torch-default.yaml")
    known = {key: value for key, value in (settings.get("_inductor_vars") or {}).items() if hasattr(inductor, key)}
    flat = {key: value for key, value in known.items() if isinstance(value, bool | int | str)}
    whole: Any = torch.compile(model, dynamic=False, fullgraph=bool(settings.get("fullgraph", False)), options=flat)
    return whole


def _step(model: nn.Module, work: Workload, device: torch.device, *, bf16: bool) -> Callable[[], None]:
    """One optimizer step over the same micro-batch, repeated."""
    inputs = fixed_inputs(work, device)
    labels = torch.full((work.microbatch * work.length,), -100, device=device)
    labels[inputs["positions"]] = inputs["labels"]
    batch: dict[str, Tensor] = {"input_ids": inputs["ids"], "labels": labels.view(work.microbatch, work.length)}
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-6, betas=(0.9, 0.98), eps=1e-12, weight_decay=0.01, foreach=False
    )
    count = work.rows // work.microbatch

    def step() -> None:
        for _ in range(count):
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
                loss = model(**batch)["loss"]
            (loss / count).backward()
            loss.detach().isfinite().item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        synchronise(device)

    return step
