"""Proof that an exported folder is our model: it is loaded as any user would, and its answers are compared with ours.

Answers are logits, or hidden states of a folder that holds the encoder alone. In fp32 on the CPU, on a padded batch with a full row, a row of one token and rows between; at real tokens only, since
what stands at padding is nobody's prediction, but NaN is refused anywhere: one in a padded key spoils the real queries.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpuday.core.errors import GpudayError
from gpuday.evaluate.model_folder import quiet
from gpuday.models.heads import MaskedLM

TOLERANCE = 1e-3  # two correct fp32 implementations differ by about 1e-5 on logits of scale 10
MAX_TOKENS = 2048  # in a batch: its logits are held twice, vocab * 4 bytes a token


class ParityError(GpudayError):
    """The exported folder is not the trained model: a fault in the export, never of the user."""


def check_model(model: MaskedLM, folder: Path, *, head: bool = True) -> dict[str, Any]:
    """Load a folder by AutoModelForMaskedLM, without a `head` by AutoModel, and compare it with the model; load it by
    AutoModelForSequenceClassification too.

    Returns `parity_max_abs`, the largest absolute difference of answers at real tokens, and the `rows` compared.
    Raises ParityError when it exceeds 1e-3 (less for small answers), when a weight is missing, unknown or misshapen, or
    when a value is not finite.
    """
    ids, mask = padded_batch(model.vocab, model.length)
    native = load_auto("AutoModelForMaskedLM", folder) if head else load_auto("AutoModel", folder, new=("pooler.",))
    reference = _reference(model)
    with torch.inference_mode():
        answer = native(input_ids=ids, attention_mask=mask.long())
        theirs = answer.logits if head else answer.last_hidden_state
        ours = reference(ids, mask=mask).view(*ids.shape, -1) if head else reference.encoder(ids, mask)
    what = "logits" if head else "hidden states"
    if theirs.shape != ours.shape:
        raise ParityError(f"{what} have shape {tuple(theirs.shape)}, ours {tuple(ours.shape)}", where=str(folder))
    for name, answers in (("exported", theirs), ("trained", ours)):
        if not torch.isfinite(answers).all():
            raise ParityError(f"the {name} model's {what} on a padded batch are not finite", where=str(folder))
    largest = float((theirs - ours)[mask].abs().max())
    # Rounding shrinks with the answers, so that a barely trained model must not pass by being small.
    allowed = TOLERANCE * min(1.0, float(ours[mask].std()))
    if largest > allowed:
        raise ParityError(
            f"the exported model's {what} differ from the trained model's by {largest:.3g}, more than {allowed:.3g}",
            where=str(folder),
            fix="keep the run and report it with the version of transformers; the trained weights are unharmed",
        )
    _check_classifier(folder, ids, mask, head=head)
    return {"parity_max_abs": largest, "rows": len(ids)}


def padded_batch(vocab: int, length: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """ids [B, length] int64 and mask [B, length] bool: of `length`, one, half, two and a third; B is 2 to 5."""
    wanted = [length, 1, max(1, length // 2), min(2, length), max(1, length // 3)]
    lengths = torch.tensor(wanted[: max(2, MAX_TOKENS // length)])
    mask = torch.arange(length)[None, :] < lengths[:, None]
    ids = torch.randint(vocab, (len(lengths), length), generator=torch.Generator().manual_seed(seed))
    return ids.masked_fill(~mask, 0), mask


def _reference(model: MaskedLM) -> MaskedLM:
    """The model again in fp32 on the CPU, whatever device and compute dtype the given one has."""
    copy = MaskedLM(model.config, vocab=model.vocab, length=model.length)
    copy.load_state_dict({name: value.detach().float().cpu() for name, value in model.state_dict().items()})
    copy.shifted = model.shifted
    return copy.eval()


def load_auto(auto: str, folder: Path, *, new: tuple[str, ...] = (), unused: tuple[str, ...] = ()) -> torch.nn.Module:
    """A model by one of Transformers' Auto classes, fp32, from local files, without code from the folder or pickles.

    `new` and `unused` are prefixes of weights that may be absent from the file, and from the model.
    """
    import transformers

    # Whole and under its own name: an index of parts may name files elsewhere, and files that are pickles.
    if not (folder / "model.safetensors").is_file():
        raise ParityError("the exported folder holds no model.safetensors", where=str(folder))
    # Heads that the folder has no weights for are drawn at random: the caller's stream must not notice.
    with quiet(), torch.random.fork_rng(devices=[]):
        model, found = getattr(transformers, auto).from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    missing = [key for key in found["missing_keys"] if not key.startswith(new or ("\0",))]
    unknown = [key for key in found["unexpected_keys"] if not key.startswith(unused or ("\0",))]
    if missing or unknown or found["mismatched_keys"]:
        raise ParityError(
            f"{auto} finds weights missing {sorted(missing)}, unknown {sorted(unknown)}, "
            f"misshapen {sorted(str(key) for key in found['mismatched_keys'])}",
            where=str(folder),
            fix="report this with the version of transformers",
        )
    loaded: torch.nn.Module = model.eval()
    return loaded


def _check_classifier(folder: Path, ids: Tensor, mask: Tensor, *, head: bool) -> None:
    """The folder fine-tunes: a classifier loads from it, all its trunk's weights included, and answers."""
    model = load_auto(
        "AutoModelForSequenceClassification",
        folder,
        new=("classifier.", "bert.pooler.") if head else ("classifier.", "bert.pooler.", "head."),
        unused=("decoder.", "cls.predictions."),
    )
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask.long()).logits
    if logits.shape[0] != len(ids) or not torch.isfinite(logits).all():
        raise ParityError("the exported folder's classifier gives no finite answer", where=str(folder))
