"""Any Hugging Face encoder folder as a subject, so that a published model stands in the same table as a run.

Shapes: B rows, L positions, D width, P predicted positions, V vocabulary.
"""

import copy
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import Tensor, nn

from gpuday.core.errors import DataError
from gpuday.core.rundir import read_json
from gpuday.evaluate.model_folder import (
    CONFIG,
    SAVE_AGAIN,
    WANTED,
    fast_tokenizer,
    find_folder,
    guarded,
    quiet,
    read_config,
)
from gpuday.evaluate.pooling import pooling_of_folder
from gpuday.evaluate.reading import Reader, reader_of_fast
from gpuday.evaluate.subject import Predictor, Subject, hash_tensors
from gpuday.models.dropout import quicken
from gpuday.train.device import configure, pick_device

_NOT_ASKED = ("_name_or_path", "transformers_version", "architectures")  # of a config
_TRIED = 5  # tokens of the row that a new model must answer


def subject_of_folder(folder: Path, scores: Path) -> Subject:
    """The encoder in a folder, or by that name in the hub's cache. Raises DataError for what is missing, damaged, a pickle, or
    no encoder, with what to do about it."""
    inside = find_folder(folder)
    settings = read_config(inside)
    device = pick_device()
    configure(device, exact=True)  # scores in fp32 are fp32
    tokenizer = fast_tokenizer(inside)
    whole, new = _loaded(inside, settings)
    base: nn.Module = whole.base_model
    typed = _takes_types(base, settings, tokenizer)
    reader = reader_of_fast(tokenizer, typed=typed)
    length = _longest(base, settings, tokenizer)
    width = _tried(inside, base, reader)
    no_predictor = _why_no_predictor(whole, new)
    pooling, no_pooling = pooling_of_folder(inside, settings)
    state = whole.state_dict()

    def fresh(dropout: float) -> Any:
        return _rebuilt(whole, state, dropout).to(device)

    return Subject(
        name=folder.name,
        kind="huggingface",
        reader=reader,
        width=width,
        length=length,
        device=device,
        model_hash=_hash(
            hash_tensors((name, tensor) for name, tensor in whole.named_parameters() if name not in new),
            read_json(inside / CONFIG),
            reader,
            length,
            pooling or no_pooling,
        ),
        recipe_fingerprint=None,
        scores=scores,
        make_body=lambda dropout, dtype: HuggingFaceBody(fresh(dropout).base_model, dtype),
        make_predictor=None if no_predictor else lambda dtype: HuggingFacePredictor(fresh(0.0), dtype),
        no_predictor=no_predictor,
        pooling=pooling,
        no_pooling=no_pooling,
    )


class HuggingFaceBody(nn.Module):
    """(ids [B, L] int64, mask [B, L] bool, types [B, L] int64 or None) -> hidden [B, L, D] in dtype.

    `model` keeps fp32 weights. In bf16 it computes under autocast, as a `Trainer` with bf16=True does; in fp32 its numbers
    are the model's own.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        given = {} if types is None else {"token_type_ids": types}
        with torch.autocast(ids.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            hidden: Tensor = self.model(input_ids=ids, attention_mask=mask.long(), **given)[0]
        return hidden.to(self.dtype)


class HuggingFacePredictor(Predictor):
    """The folder's own head for masked tokens, computed at the asked positions only.

    The heads of all masked language models act on each position by itself: the trunk's answer is cut to the positions
    before the head sees it.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        self._model, self._dtype = model.eval(), dtype
        self._positions: Tensor | None = None
        model.base_model.register_forward_hook(self._cut)

    @torch.inference_mode()
    def logits(self, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        self._positions = positions
        with torch.autocast(ids.device.type, dtype=self._dtype, enabled=self._dtype != torch.float32):
            logits: Tensor = self._model(input_ids=ids, attention_mask=mask.long()).logits
        assert logits.shape[:2] == (1, len(positions)), logits.shape
        return logits[0].float()

    def logits_at(self, ids: Tensor, places: Tensor) -> Tensor:
        first = torch.arange(len(ids), device=ids.device) * ids.shape[1]
        return self.logits(ids, torch.ones_like(ids, dtype=torch.bool), first + places)

    def compile(self, notice: Callable[[str], None]) -> None:
        """Stays as it is: a hook cuts its trunk's answer."""

    def _cut(self, module: nn.Module, inputs: object, output: Any) -> Any:
        del module, inputs
        assert self._positions is not None, "logits sets them"
        hidden: Tensor = output.last_hidden_state
        output.last_hidden_state = hidden.flatten(0, 1).index_select(0, self._positions)[None]
        return output


def _hash(weights: str, settings: dict[str, Any], reader: Reader, length: int, pooling: str) -> str:
    """xxh3-128 of all that a score depends on in a folder; which version wrote it, from where, and which class it was saved
    from are not among it."""
    settings = {key: value for key, value in settings.items() if key not in _NOT_ASKED}
    reading = [reader.tokenizer.to_str(), reader.pad_id, reader.mask_id, reader.typed, reader.side]
    whole = [weights, settings, *reading, reader.tokenizer.encode_special_tokens, length]
    whole += [] if pooling == "first" else [pooling]  # which says what no hash said while it was the only one
    return xxhash.xxh3_128_hexdigest(json.dumps(whole, sort_keys=True).encode())


def _loaded(folder: Path, settings: Any) -> tuple[Any, set[str]]:
    """(model in fp32 on the CPU with all of its trunk's weights, names of weights that the folder does not have)."""
    import transformers

    masked = type(settings) in transformers.MODEL_FOR_MASKED_LM_MAPPING
    auto: Any = transformers.AutoModelForMaskedLM if masked else transformers.AutoModel
    # Heads that the folder has no weights for are drawn at random: the caller's stream must not notice.
    with torch.random.fork_rng(devices=[]):
        model, found = guarded(
            folder,
            "weights that fit its config",
            lambda: auto.from_pretrained(
                folder,
                config=settings,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            ),
        )
    trunk = {name for name, _ in model.base_model.named_parameters()}
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    new = set(found["missing_keys"])
    lacking = sorted(key for key in new if key.removeprefix(prefix) in trunk and not key.startswith("pooler."))
    if lacking:
        raise DataError(f"{folder} lacks weights of its encoder: {', '.join(lacking[:3])}", fix=SAVE_AGAIN)
    return model.eval(), new


def _why_no_predictor(model: Any, new: set[str]) -> str:
    """Why the model's head for masked tokens is not to be asked; empty where it is."""
    if model.base_model is model:
        return f"{model.config.model_type} has no head for masked tokens"
    return f"the folder has no weights for a head for masked tokens, such as {min(new)}" if new else ""


def _rebuilt(model: Any, state: dict[str, Tensor], dropout: float) -> Any:
    """A new model of the class, with these weights and all dropout probabilities so."""
    settings = copy.deepcopy(model.config)
    for name, value in settings.to_dict().items():
        if "dropout" in name and isinstance(value, int | float) and not isinstance(value, bool):
            setattr(settings, name, dropout)
    with quiet(), torch.random.fork_rng(devices=[]):
        # The weights are taken as they are, not copied, by a model that is given a state.
        given = {name: tensor.clone() for name, tensor in state.items()}
        made = type(model).from_pretrained(
            None, config=settings, state_dict=given, dtype=torch.float32, local_files_only=True
        )
    quicken(made)
    return made


def _takes_types(base: nn.Module, settings: Any, tokenizer: Any) -> bool:
    """Whether the tokenizer gives token types, and the model has more than one."""
    taken = "token_type_ids" in inspect.signature(base.forward).parameters
    return taken and "token_type_ids" in tokenizer.model_input_names and getattr(settings, "type_vocab_size", 0) > 1


def _longest(base: nn.Module, settings: Any, tokenizer: Any) -> int:
    """Tokens of the longest row. Tables that begin after the padding's number (RoBERTa) have fewer places than rows."""
    places: int = getattr(settings, "max_position_embeddings", None) or tokenizer.model_max_length
    table = getattr(getattr(base, "embeddings", None), "position_embeddings", None)
    if isinstance(table, nn.Embedding) and table.padding_idx is not None:
        places -= table.padding_idx + 1
    return min(places, tokenizer.model_max_length)


@torch.inference_mode()
def _tried(folder: Path, base: Any, reader: Reader) -> int:
    """Width of the hidden states, after the model has answered one row."""
    tokens = base.get_input_embeddings().num_embeddings
    largest = max(reader.tokenizer.get_vocab(with_added_tokens=True).values())
    if largest >= tokens:
        raise DataError(
            f"the tokenizer has ids up to {largest:,}, the model {tokens:,} tokens",
            where=str(folder),
            fix="put the model's own tokenizer there",
        )
    ids = torch.full((1, _TRIED), reader.mask_id)
    body = HuggingFaceBody(base, torch.float32)
    hidden = guarded(folder, "an encoder of tokens", lambda: body(ids, torch.ones_like(ids, dtype=torch.bool)))
    if hidden.dim() != 3 or hidden.shape[:2] != ids.shape:
        what = f"the model answers {_TRIED} tokens with shape {tuple(hidden.shape)}"
        raise DataError(what, where=str(folder), fix=WANTED)
    return int(hidden.shape[2])
