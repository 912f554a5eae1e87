"""What the variants are: every part, and every value of an axis or a knob, each as one change to a preset.

They come from the code: the parts of each kind, the fields of `EncoderConfig` and of the parts, the options of a Literal.
What has no list of values has the ones that STATED gives it, and what cannot stand alone has its COMPANIONS.
"""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gpuday.core import config, parts
from gpuday.core.explained import Knob, knobs, papers, papers_in
from gpuday.models import block, init, norm, position, skip
from gpuday.models.encoder import EncoderConfig
from gpuday.recipe import KINDS, Recipe

# Where a recipe holds a part of the kind; what the schedules of the other quantities do is stated below.
KEYS = {
    "mixer": "model.mixer",
    "feedforward": "model.feedforward",
    "shape": "model.shape",
    "objective": "objective",
    "optimizer": "optimizer",
    "schedule": "rate",
    "average": "average",
}
OF_DATA = ("filter", "order", "source")  # kinds that decide which text is read, not what is done with it
AXIS, QUANTITY = "axis", "scheduled"

# What is written of an axis where it is done.
AXIS_MODULES = {
    **dict.fromkeys(("norm", "norm_eps", "norm_scale", "norm_bias"), norm),
    **dict.fromkeys(("placement", "block", "layer_drop"), block),
    **dict.fromkeys(("init", "init_std", "zero_output"), init),
    "skip": skip,
    "position": position,
}

# Values of axes and knobs that are numbers, tables or parts: (group, part or "", knob, value).
STATED: tuple[tuple[str, str, str, Any], ...] = (
    (AXIS, "", "width", 320),
    (AXIS, "", "feedforward_every", 2),
    (AXIS, "", "feedforward_every", 0),
    (AXIS, "", "norm_eps", 1e-12),
    (AXIS, "", "layer_drop", 0.1),
    (AXIS, "", "embedding_width", 128),
    (AXIS, "", "dropout", 0.1),
    (AXIS, "", "logit_cap", 30.0),
    (AXIS, "", "init_std", 0.01),
    ("mixer", "softmax", "window", 64),
    ("mixer", "softmax", "cap", 50.0),
    ("mixer", "hybrid", "lower", {"part": "softmax", "window": 64}),
    ("feedforward", "geglu", "ratio", 1.5),
    ("shape", "funnel", "factor", 4),
    ("objective", "hybrid", "causal", 0.0625),
    ("objective", "hybrid", "shift", True),
    ("objective", "mlm", "rate", 0.15),
    ("objective", "mlm", "random", 0.1),
    ("objective", "mlm", "token_drop", 0.5),
    ("objective", "mlm", "loss", {"smoothing": 0.1}),
    ("objective", "mlm", "loss", {"z_loss": 1e-4}),
    ("objective", "rtd", "generator_depth", 0.5),
    ("optimizer", "muon", "variance", 0.0),
    ("optimizer", "muon", "variance", 0.95),
    ("optimizer", "muon", "cautious", False),
    ("optimizer", "muon", "momentum_steps", 100),
    ("optimizer", "sam", "inner", "muon"),
    (QUANTITY, "", "mask_rate", "constant"),
    (QUANTITY, "", "mask_rate", {"part": "triangle", "end": 0.25}),
    (QUANTITY, "", "decay", {"part": "constant", "cooldown": 1.0}),
    (QUANTITY, "", "dropout", {"part": "ramp", "start": 1.0, "end": 0.0}),
    (QUANTITY, "", "length", {"part": "stages", "stages": [[0.5, 0.5], [1.0, 1.0]]}),
)

# What a variant needs beside its one change, by the variant's name; each config says so when it is left out.
COMPANIONS: dict[str, dict[str, Any]] = {
    "axis layer_drop=0.1": {"train.dropout": True},
    "axis dropout=0.1": {"train.dropout": True},
    "axis placement=post": {"model.first_norm": True},
    "axis placement=deepnorm": {"model.first_norm": True},
    "axis placement=sandwich": {"model.zero_output": False},
    "objective mlm random=0.1": {"objective.masked": 0.8},
    'scheduled dropout={"part": "ramp", "start": 1.0, "end": 0.0}': {"train.dropout": True, "model.dropout": 0.1},
}
# Masks as the preset's, for what cannot look back only, as a causal step must.
MASKS = {"part": "mlm", "rate": 0.4}
# The same for every variant of a part.
PART_COMPANIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("mixer", "fourier"): {"model.position": "learned", "objective": MASKS},
    ("mixer", "hybrid"): {"objective": MASKS},
    ("mixer", "identity"): {"model.position": "learned"},
    ("shape", "funnel"): {"objective": MASKS},
    ("shape", "recurrent"): {"model.first_norm": True},
    ("optimizer", "schedule_free"): {"rate": {"part": "constant", "warmup": 0.02}},
}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One change to a preset."""

    group: str
    """The kind of part, `axis` of the encoder, or `scheduled` for what a schedule moves beside the rate."""
    name: str
    """The part, or `part knob=value`, or `axis=value`."""
    changes: dict[str, Any]
    """Values by dotted path; the companions first."""
    companions: tuple[str, ...]
    """Paths among them that only make the change possible."""
    source: tuple[str, ...]
    """The papers that the part's module names, or the knob's own line; of an axis, its module as well."""

    @property
    def key(self) -> str:
        return f"{self.group} {self.name}"

    def of(self, preset: Recipe) -> Recipe:
        """The preset with the change. Raises UsageError where its config refuses it."""
        nested: dict[str, Any] = {}
        for path, value in self.changes.items():
            *tables, last = path.split(".")
            table = nested
            for name in tables:
                table = table.setdefault(name, {})
            table[last] = value
        return config.merge(preset, nested)


def variants() -> list[Variant]:
    """All of them: parts and their knobs by kind, axes of the encoder, what else is scheduled."""
    return [*_parts(), *_axes(EncoderConfig), *_quantities()]


def _parts() -> Iterator[Variant]:
    for group, key in KEYS.items():
        for name in parts.names(KINDS[group]):
            part = parts.find(KINDS[group], name)
            yield _variant(group, name, {f"{key}.part": name}, papers(part), part=name)
            for knob, value, what in _alternatives(group, name, knobs(part)):
                change = {f"{key}.part": name, f"{key}.{knob}": value}
                yield _variant(group, f"{name} {knob}={_written(value)}", change, papers_in(what), part=name)


def _axes(cls: type) -> Iterator[Variant]:
    among = [knob for knob in knobs(cls) if knob.name not in KEYS]
    for knob, value, what in _alternatives(AXIS, "", among, all_values=True):
        source = papers_in(f"{what} {AXIS_MODULES[knob].__doc__ if knob in AXIS_MODULES else ''}")
        yield _variant(AXIS, f"{knob}={_written(value)}", {f"model.{knob}": value}, source)


def _quantities() -> Iterator[Variant]:
    for group, _, knob, value in STATED:
        if group == QUANTITY:
            chosen = parts.find(KINDS["schedule"], value if isinstance(value, str) else value["part"])
            yield _variant(QUANTITY, f"{knob}={_written(value)}", {knob: value}, papers(chosen))


def _alternatives(
    group: str, part: str, among: list[Knob], *, all_values: bool = False
) -> Iterator[tuple[str, Any, str]]:
    """Paths of knobs, values of each (all of a list, or but the default, and those that are stated), and its line."""
    for knob in among:
        if knob.type in ("choice", "yes or no"):
            yield from ((knob.name, value, knob.what) for value in knob.values if all_values or value != knob.default)
        elif knob.type == "table":
            inner = _alternatives(group, "", knobs(type(knob.default)))
            yield from ((f"{knob.name}.{path}", value, what) for path, value, what in inner)
        stated = (value for g, p, name, value in STATED if (g, p, name) == (group, part, knob.name))
        yield from ((knob.name, value, knob.what) for value in stated)


def _variant(group: str, name: str, change: dict[str, Any], source: tuple[str, ...], *, part: str = "") -> Variant:
    needed = {**PART_COMPANIONS.get((group, part), {}), **COMPANIONS.get(f"{group} {name}", {})}
    return Variant(group=group, name=name, changes={**needed, **change}, companions=tuple(needed), source=source)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def stated_without_a_row(rows: list[Variant]) -> list[str]:
    """What STATED and COMPANIONS say of what is not there: a knob that was renamed, a variant that is gone."""
    named = {row.key for row in rows}
    stated = (f"{g} {f'{p} ' if p else ''}{knob}={_written(value)}" for g, p, knob, value in STATED)
    chosen = {(row.group, row.name.split(" ")[0]) for row in rows}
    lost = [f"{group} {part}" for group, part in PART_COMPANIONS if (group, part) not in chosen]
    return [name for name in (*stated, *COMPANIONS) if name not in named] + lost


def fields_without_a_row(rows: list[Variant]) -> list[str]:
    """Axes of the encoder that no variant changes."""
    changed = {tuple(path.split(".")[:2]) for row in rows for path in row.changes if path not in row.companions}
    return [f.name for f in dataclasses.fields(EncoderConfig) if ("model", f.name) not in changed]
