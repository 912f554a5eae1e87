"""The files of a kept model: weights, config and tokenizer, in whichever of the formats holds it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import nn

from gpuday.core import config
from gpuday.core.rundir import read_json, write_atomic, write_json
from gpuday.data.tokenizer import TextTokenizer
from gpuday.evaluate.huggingface import HuggingFaceBody
from gpuday.evaluate.reading import Reader
from gpuday.evaluate.subject import Subject
from gpuday.export import task_heads
from gpuday.export.hf import NATIVES
from gpuday.export.kept import Kept
from gpuday.export.native import Specials
from gpuday.export.predicting import BODY, ENCODER, TOKENIZER, WEIGHTS, Outline
from gpuday.export.task_heads import Headed
from gpuday.export.tokenizer import check_tokenizer, write_tokenizer
from gpuday.models.encoder import Encoder
from gpuday.models.heads import MaskedLM

# Of a config: what another class, task or place was told.
_OTHERS = ("architectures", "auto_map", "_name_or_path", "id2label", "label2id", "num_labels", "problem_type")


def settings_of(body: nn.Module) -> dict[str, Any]:
    """config.json of an encoder of Transformers, but for what names its class."""
    assert isinstance(body, HuggingFaceBody), "a subject's body is ours or one of Transformers"
    whole: Any = body.model.config
    values: dict[str, Any] = json.loads(whole.to_json_string(use_diff=False))
    return {name: value for name, value in values.items() if name not in _OTHERS}


def dropping(values: dict[str, Any], dropout: float) -> dict[str, Any]:
    """A config with this probability under every name of dropout that has one."""
    names = {n for n, value in values.items() if "dropout" in n and type(value) in (int, float)}
    return values | dict.fromkeys(names, dropout)


def write_model(kept: Kept, model: Headed, subject: Subject, folder: Path, *, dropout: float) -> None:
    """`model` is in fp32 on the CPU; `dropout` is the probability that it was fine-tuned with."""
    body, state = model.body, {name: value.contiguous() for name, value in model.state_dict().items()}
    if isinstance(body, Encoder):
        tokenizer = TextTokenizer(Tokenizer.from_str(subject.reader.tokenizer.to_str()))
        if kept.format == "transformers":
            _write_ours(kept, model, body, tokenizer, folder, dropout=dropout)
            return
        settings = dataclasses.replace(body.config, dropout=dropout)
        outline = Outline(encoder=settings, vocab=body.vocab, length=body.length)
        write_json(folder / ENCODER, config.to_dict(outline))
        save_file(state, folder / WEIGHTS)
        tokenizer.save(folder / TOKENIZER)
    elif kept.format == "transformers":
        _write_theirs(kept, model, body, folder, dropout=dropout)
        _write_their_tokenizer(subject.reader, folder, length=kept.length)
    else:
        theirs: Any = body.model
        theirs.save_pretrained(folder / BODY)
        path = folder / BODY / "config.json"
        write_json(path, dropping(read_json(path), dropout))
        _write_their_tokenizer(subject.reader, folder / BODY, length=subject.length)
        save_file({name: value for name, value in state.items() if not name.startswith("body.")}, folder / WEIGHTS)


def _write_ours(
    kept: Kept, model: Headed, body: Encoder, tokenizer: TextTokenizer, folder: Path, *, dropout: float
) -> None:
    """An encoder of ours in a class of Transformers."""
    import transformers

    native = next(native for native in NATIVES if native.kind == kept.head)
    whole = MaskedLM(body.config, vocab=body.vocab, length=body.length)  # whose own head is left behind
    whole.encoder.load_state_dict(body.state_dict())
    specials = Specials(pad=tokenizer.pad_id, cls=tokenizer.cls_id, sep=tokenizer.sep_id)
    values = dropping(native.config(whole, specials, version=transformers.__version__, head=False), dropout)
    values |= task_heads.settings(kept.as_task(), kept.head, dropout=dropout, pooling=kept.pooling)
    weights = native.moves(whole, head=False)
    weights |= task_heads.weights(model, kept.kind, norm_bias=bool(values.get("norm_bias")))
    write_json(folder / "config.json", values)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    write_tokenizer(tokenizer, folder, length=kept.length)
    check_tokenizer(tokenizer, folder)


def _write_theirs(kept: Kept, model: Headed, body: nn.Module, folder: Path, *, dropout: float) -> None:
    """An encoder of Transformers in the class that it has for the task."""
    values = dropping(settings_of(body), dropout)
    values |= task_heads.settings(kept.as_task(), kept.head, dropout=dropout, pooling=kept.pooling)
    theirs: Any = body.model
    weights = {
        f"{theirs.base_model_prefix}.{name}": value.contiguous()
        for name, value in theirs.state_dict().items()
        if not name.startswith("pooler.")  # the head's own, or none
    }
    weights |= task_heads.weights(model, kept.kind, norm_bias=bool(values.get("norm_bias")))
    write_json(folder / "config.json", values)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def _write_their_tokenizer(reader: Reader, folder: Path, *, length: int) -> None:
    """A tokenizer of Transformers as it reads here: what else its class can do is not needed to repeat that."""
    own = Tokenizer.from_str(reader.tokenizer.to_str())
    own.no_truncation()
    framed = own.encode("").ids
    roles = {"pad_token": reader.pad_id, "mask_token": reader.mask_id}
    if framed:  # what frames an empty text begins and ends every text
        roles |= {"cls_token": framed[0], "sep_token": framed[-1]}
    write_atomic(folder / TOKENIZER, own.to_str().encode())
    inputs = ["input_ids", "token_type_ids", "attention_mask"] if reader.typed else ["input_ids", "attention_mask"]
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **{role: own.id_to_token(i) for role, i in roles.items()},
            "model_max_length": length,
            "model_input_names": inputs,
            "padding_side": "right",
            "truncation_side": reader.side,
            "clean_up_tokenization_spaces": False,
        },
    )
