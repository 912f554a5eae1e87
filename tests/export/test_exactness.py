"""Every axis of the encoder at every value, and many at once: either exported exactly or refused, never neither."""

import dataclasses
import random
import typing
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers

from gpuday.core import parts
from gpuday.core.config import replace_at, to_dict
from gpuday.core.errors import UsageError
from gpuday.core.explained import values_of
from gpuday.export.bert import BERT
from gpuday.export.hf import NATIVES, choose
from gpuday.export.modernbert import MODERNBERT
from gpuday.export.native import Native, Specials
from gpuday.export.parity import padded_batch
from gpuday.models.encoder import EncoderConfig
from gpuday.models.heads import MaskedLM
from gpuday.models.shapes.plain import Plain

VOCAB, LENGTH = 96, 24
BASES = [pytest.param("modern", MODERNBERT, id="modern"), pytest.param("bert", BERT, id="bert")]

# Values of every knob that is a number, beside its default; one that is missing here fails the test.
NUMBERS: dict[str, tuple[Any, ...]] = {
    "width": (64,),
    "feedforward_every": (0, 2),
    "norm_eps": (1e-12, 1e-3),
    "layer_drop": (0.5,),
    "embedding_width": (32,),
    "dropout": (0.3,),
    "logit_cap": (5.0,),
    "init_std": (0.0, 0.1),
    "ratio": (0.5,),
    "head_width": (8,),
    "theta": (500.0,),
    "local_theta": (500.0,),
    "window": (1, 7),
    "global_every": (2,),
    "cap": (3.0,),
    "start": (1.0,),
    "last": (1,),
    "layers": (1, 2),
    "repeats": (1, 2),
    "stages": ((2, 1),),
    "factor": (3,),
    "decoder": (0,),
}
SMALL = {"head_width": 16}


def values(owner: str, name: str, hint: Any) -> list[Any]:
    """What a field can be: all of what is listed, numbers as above, parts with one knob of theirs changed at a time."""
    if parts.is_kind(hint):
        return [variant for part in parts.names(hint) for variant in variants(parts.find(hint, part)())]
    found = values_of(hint) or NUMBERS.get(name, ())
    assert found, f"{owner}.{name} has no values in NUMBERS"
    return list(found)


def variants(part: Any) -> list[Any]:
    """The part, made small, and again for every other value of each of its knobs but those that are parts."""
    part = replace(part, **{name: value for name, value in SMALL.items() if name in vars(part)})
    hints = {name: hint for name, hint in typing.get_type_hints(type(part)).items() if name in vars(part)}
    return [part] + [
        replace(part, **{name: value})
        for name, hint in hints.items()
        if not parts.is_kind(hint)
        for value in values(type(part).__name__, name, hint)
        if value != getattr(part, name)
    ]


def axes() -> list[tuple[str, Any]]:
    """(axis, value) of EncoderConfig, all of them."""
    hints = typing.get_type_hints(EncoderConfig)
    names = [field.name for field in dataclasses.fields(EncoderConfig)]
    return [(name, value) for name in names for value in values("EncoderConfig", name, hints[name])]


AXES = axes()


def changed(config: EncoderConfig, changes: dict[str, Any]) -> EncoderConfig | None:
    """None where the config refuses the combination itself."""
    try:
        return replace(config, **changes)
    except UsageError:
        return None


def difference(model: MaskedLM, native: Native) -> float:
    """The largest of logits at real tokens, between the model and the class of Transformers with its config and weights.

    For logits of 10 at most; beyond, in proportion, as rounding grows with them.
    """
    specials = Specials(pad=0, cls=2, sep=3)
    settings = native.config(model, specials, version=transformers.__version__)
    theirs = transformers.AutoModelForMaskedLM.from_config(transformers.AutoConfig.for_model(**settings))
    found = theirs.load_state_dict(native.weights(model), strict=False)
    assert not found.unexpected_keys
    theirs.tie_weights()
    untied = (
        {"decoder.weight"}
        if native is MODERNBERT
        else {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    )
    assert set(found.missing_keys) <= (untied if settings["tie_word_embeddings"] else set())
    ids, mask = padded_batch(VOCAB, LENGTH)
    with torch.no_grad():
        logits = theirs.eval()(input_ids=ids, attention_mask=mask.long()).logits
        ours = model(ids, mask=mask).view_as(logits)
    return float((logits - ours)[mask].abs().max() / max(1.0, float(ours[mask].abs().max()) / 10.0))


def nearest(config: EncoderConfig, native: Native) -> EncoderConfig:
    """The config with every axis in the way set to the value that its obstacle names."""
    for wants in native.requirements:
        if wants.obstacle(config) is not None:
            value = variants(wants.nearest)[0] if isinstance(wants.nearest, parts.Part) else wants.nearest
            config = replace_at(config, wants.axis, to_dict(value) if isinstance(value, parts.Part) else value)
    return config


@pytest.fixture
def base(request, name: str) -> EncoderConfig:
    """A config that its class holds, of few layers."""
    return replace(request.getfixturevalue(name), width=32, shape=Plain(layers=2))


@pytest.mark.parametrize(("name", "native"), BASES)
def test_every_value_of_every_axis_is_exact_or_refused_by_name(base, native, make_model):
    """From what a class holds, one axis at a time: logits within 1e-4, all weights random, or an obstacle of that axis."""
    for axis, value in AXES:
        config = changed(base, {axis: value})
        if config is None:
            continue
        obstacles = native.obstacles(config)
        if obstacles:
            assert [sentence.split(" is ")[0].split(".")[0] for sentence in obstacles] == [axis], (axis, value)
        else:
            assert difference(make_model(config, vocab=VOCAB, length=LENGTH), native) <= 1e-4, (axis, value)


@pytest.mark.parametrize(("name", "native"), BASES)
def test_what_fits_alone_fits_together_or_is_refused(base, native, make_model):
    """Many axes at once, each at a value that a class holds: no two of them make a folder that is wrong."""
    alone = [
        (axis, value) for axis, value in AXES if (one := changed(base, {axis: value})) and not native.obstacles(one)
    ]
    draw, exported = random.Random(0), 0
    for _ in range(60):
        config = changed(base, dict(draw.sample(alone, 10)))
        if config is not None and not native.obstacles(config):
            assert difference(make_model(config, vocab=VOCAB, length=LENGTH), native) <= 1e-4, config
            exported += 1
    assert exported >= 25


@pytest.mark.parametrize(("name", "native"), BASES)
def test_the_nearest_values_export(base, native):
    """Whoever does what all the obstacles of a class say has a model that it holds."""
    for axis, value in AXES:
        config = changed(base, {axis: value})
        for known in NATIVES if config is not None else ():
            assert known.obstacles(nearest(config, known)) == [], (axis, value, known.kind)


def test_a_refusal_names_the_nearest_value(modern):
    """Axis, value, what the class has there, and what to set."""
    _, obstacles = choose(replace(modern, logit_cap=5.0, tied=False))
    assert obstacles["modernbert"] == [
        "logit_cap is 5.0: ModernBERT does not cap its logits: ranks would stay, probabilities would not (nearest: 0.0)"
    ]
