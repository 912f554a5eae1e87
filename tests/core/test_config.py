"""Configs: strict in, the same out."""

import abc
import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuday.core import config, parts
from gpuday.core.errors import UsageError


class Schedule(parts.Part, abc.ABC):
    """A toy kind, whose parts are made known below instead of by a folder."""

    @abc.abstractmethod
    def __call__(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Flat(Schedule):
    level: float = 1.0

    def __call__(self) -> float:
        return self.level


@dataclass(frozen=True, kw_only=True)
class Ramp(Schedule):
    start: float = 0.0
    end: float = 1.0
    knots: tuple[float, ...] = ()

    def __call__(self) -> float:
        return self.end


@dataclass(frozen=True, kw_only=True)
class Both(Schedule):
    """A part that holds another one by its own class, as Muon holds the AdamW of its tables."""

    first: Ramp = Ramp(end=0.5)
    second: Schedule = Flat()

    def __call__(self) -> float:
        return self.first() * self.second()


@dataclass(frozen=True, kw_only=True)
class Model:
    width: int = 256
    dropout: float = 0.0
    tied: bool = True
    norm: Literal["layer", "rms"] = "layer"
    window: int | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    name: str
    seed: int = 0
    betas: tuple[float, float] = (0.9, 0.98)
    tags: tuple[str, ...] = ()
    model: Model = Model()
    schedule: Schedule = field(default_factory=Flat)
    warm: Schedule | None = None


@pytest.fixture(autouse=True)
def toy_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flat, Ramp and Both are the parts of Schedule."""
    known = {"flat": Flat, "ramp": Ramp, "both": Both}
    find, name_of = parts.find, parts.name_of
    monkeypatch.setattr(parts, "names", lambda kind: sorted(known))
    monkeypatch.setattr(parts, "_user_files", {(__name__, name): cls for name, cls in known.items()})
    assert find(Schedule, "ramp") is Ramp
    assert name_of(Ramp) == "ramp"


def test_a_config_becomes_plain_json_with_its_parts_named() -> None:
    """Written by hand: what recipe.json holds."""
    run = Run(name="a", schedule=Ramp(knots=(0.5,)), tags=("x",))
    expected = {
        "name": "a",
        "seed": 0,
        "betas": [0.9, 0.98],
        "tags": ["x"],
        "model": {"width": 256, "dropout": 0.0, "tied": True, "norm": "layer", "window": None},
        "schedule": {"part": "ramp", "start": 0.0, "end": 1.0, "knots": [0.5]},
        "warm": None,
    }
    assert config.to_dict(run) == expected
    assert config.from_dict(Run, json.loads(json.dumps(expected))) == run


finite = st.floats(allow_nan=False, allow_infinity=False)
schedules = st.one_of(
    st.builds(Flat, level=finite),
    st.builds(Ramp, start=finite, end=finite, knots=st.lists(finite, max_size=3).map(tuple)),
)
models = st.builds(
    Model,
    width=st.integers(),
    dropout=finite,
    tied=st.booleans(),
    norm=st.sampled_from(["layer", "rms"]),
    window=st.none() | st.integers(),
)
runs = st.builds(
    Run,
    name=st.text(),
    seed=st.integers(),
    betas=st.tuples(finite, finite),
    tags=st.lists(st.text(), max_size=3).map(tuple),
    model=models,
    schedule=schedules,
    warm=st.none() | schedules,
)


@given(run=runs)
def test_every_config_survives_json(run: Run) -> None:
    """A run can be rebuilt from recipe.json alone, to the last bit of its floats."""
    back = config.from_dict(Run, json.loads(json.dumps(config.to_dict(run))))
    assert back == run
    assert config.fingerprint(back) == config.fingerprint(run)


@given(a=runs, b=runs)
def test_differences_are_what_it_takes_to_turn_one_into_the_other(a: Run, b: Run) -> None:
    """None for equal configs, and each leaf that is listed differs."""
    assert config.differences(a, a) == []
    rows = config.differences(a, b)
    assert (rows == []) == (config.to_dict(a) == config.to_dict(b))
    assert all(x != y for _, x, y in rows)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "a", "sede": 1}, "unknown key 'Run.sede'"),
        ({"name": "a", "model": {"widht": 1}}, "unknown key 'Run.model.widht'"),
        ({"name": "a", "schedule": {"part": "ramp", "ende": 1.0}}, "unknown key 'Run.schedule.ende'"),
        ({}, "Run.name is missing"),
        ({"name": 3}, "Run.name is 3 (int), not str"),
        ({"name": "a", "seed": "0"}, "Run.seed is '0' (str), not int"),
        ({"name": "a", "seed": 1.0}, "Run.seed is 1.0 (float), not int"),
        ({"name": "a", "seed": True}, "Run.seed is True (bool), not int"),
        ({"name": "a", "seed": None}, "Run.seed is None (NoneType), not int"),
        ({"name": "a", "model": {"dropout": "24"}}, "Run.model.dropout is '24' (str), not float"),
        ({"name": "a", "model": {"dropout": True}}, "Run.model.dropout is True (bool), not float"),
        ({"name": "a", "model": {"tied": 1}}, "Run.model.tied is 1 (int), not bool"),
        ({"name": "a", "model": {"window": "8"}}, "Run.model.window is '8' (str), not int"),
        ({"name": "a", "model": {"norm": "rmss"}}, "Run.model.norm is 'rmss'"),
        ({"name": "a", "model": {"norm": True}}, "Run.model.norm is True"),
        ({"name": "a", "model": 3}, "Run.model is 3, not a table"),
        ({"name": "a", "model": [1]}, "Run.model is [1], not a table"),
        ({"name": "a", "betas": [0.9]}, "Run.betas has 1 values, not 2"),
        ({"name": "a", "betas": 0.9}, "Run.betas is 0.9, not a list"),
        ({"name": "a", "betas": "ab"}, "Run.betas is 'ab', not a list"),
        ({"name": "a", "betas": [0.9, "x"]}, "Run.betas[1] is 'x' (str), not float"),
        ({"name": "a", "tags": ["x", 1]}, "Run.tags[1] is 1 (int), not str"),
        ({"name": "a", "schedule": {"end": 1.0}}, "Run.schedule names no part"),
        ({"name": "a", "schedule": {"part": 3}}, "Run.schedule names no part"),
        ({"name": "a", "schedule": None}, "Run.schedule names no part"),
        ({"name": "a", "schedule": "rmap"}, "no schedule is called 'rmap'"),
        ([], "Run is [], not a table"),
        (None, "Run is None, not a table"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_path(data: object, message: str) -> None:
    """Nothing is converted or ignored; the sentence names the key."""
    with pytest.raises(UsageError) as caught:
        config.from_dict(Run, data)
    assert caught.value.what == message


def test_an_unknown_key_gets_the_nearest_one() -> None:
    """The fix for a misspelling is the word that was meant."""
    with pytest.raises(UsageError) as caught:
        config.from_dict(Run, {"name": "a", "sede": 1})
    assert caught.value.fix == "did you mean 'seed'?"


def test_a_literal_lists_its_choices() -> None:
    """The error says what could have been written."""
    with pytest.raises(UsageError) as caught:
        config.from_dict(Model, {"norm": "rmss"})
    assert caught.value.fix == "did you mean 'rms'? (one of layer, rms)"


def test_an_integer_serves_as_a_float_and_becomes_one() -> None:
    """`dropout = 0` in TOML is 0.0, so that its fingerprint is that of 0.0."""
    model = config.from_dict(Model, {"dropout": 0})
    assert isinstance(model.dropout, float)
    assert config.fingerprint(model) == config.fingerprint(Model(dropout=0.0))


def test_a_bare_string_is_a_part_with_its_defaults() -> None:
    """`schedule = "ramp"` is short for a table with nothing but the name."""
    assert config.from_dict(Run, {"name": "a", "schedule": "ramp"}).schedule == Ramp()
    assert config.from_dict(Run, {"name": "a", "warm": {"part": "flat", "level": 2}}).warm == Flat(level=2.0)


def test_a_part_inside_a_part_survives_json_and_overrides() -> None:
    """Whether its knob is declared as the kind or as one class, what is written can be read."""
    run = Run(name="a", schedule=Both(first=Ramp(end=0.25), second=Ramp(end=3.0)))
    assert config.from_dict(Run, json.loads(json.dumps(config.to_dict(run)))) == run
    changed = config.merge(run, {"schedule": {"first": {"part": "ramp", "end": 4}}})
    assert changed.schedule == Both(first=Ramp(end=4.0), second=Ramp(end=3.0))


def test_a_knob_of_one_class_takes_no_other_part() -> None:
    """The declared class decides, and a name that contradicts it is refused."""
    with pytest.raises(UsageError):
        config.from_dict(Run, {"name": "a", "schedule": {"part": "both", "first": {"part": "flat"}}})


def test_a_number_too_large_for_a_float_is_refused() -> None:
    """TOML allows integers of any length."""
    with pytest.raises(UsageError, match="dropout"):
        config.from_dict(Model, {"dropout": 10**400})


def test_merge_changes_what_it_names_and_nothing_else() -> None:
    """Nested tables keep their other values, and the original is untouched."""
    run = Run(name="a", model=Model(width=8, dropout=0.5))
    merged = config.merge(run, {"seed": 3, "model": {"width": 16}})
    assert merged == Run(name="a", seed=3, model=Model(width=16, dropout=0.5))
    assert run == Run(name="a", model=Model(width=8, dropout=0.5))
    assert config.merge(run, {}) == run


def test_merge_keeps_the_knobs_of_a_part_it_does_not_rename() -> None:
    """Without a name, or with the same one, only the named knobs change."""
    run = Run(name="a", schedule=Ramp(start=0.25, end=0.5))
    expected = Run(name="a", schedule=Ramp(start=0.25, end=2.0))
    assert config.merge(run, {"schedule": {"end": 2}}) == expected
    assert config.merge(run, {"schedule": {"part": "ramp", "end": 2}}) == expected


def test_merge_swaps_a_part_for_another_ones_defaults() -> None:
    """Knobs of the old part are never carried into the new one."""
    run = Run(name="a", schedule=Ramp(start=0.25))
    assert config.merge(run, {"schedule": {"part": "flat", "level": 3.0}}).schedule == Flat(level=3.0)
    assert config.merge(run, {"schedule": "flat"}).schedule == Flat()
    with pytest.raises(UsageError, match=r"unknown key 'schedule\.start'"):
        config.merge(run, {"schedule": {"part": "flat", "start": 1.0}})


def test_merge_fills_and_empties_an_optional_part() -> None:
    """None turns into a part and back."""
    warm = config.merge(Run(name="a"), {"warm": {"part": "ramp", "end": 2.0}})
    assert warm.warm == Ramp(end=2.0)
    assert config.merge(warm, {"warm": {"end": 3.0}}).warm == Ramp(end=3.0)
    assert config.merge(warm, {"warm": None}).warm is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"sede": 1}, "unknown key 'sede'"),
        ({"model": {"widht": 1}}, "unknown key 'model.widht'"),
        ({"model": {"part": "flat"}}, "unknown key 'model.part'"),
        ({"model": {"width": "8"}}, "model.width is '8' (str), not int"),
        ({"schedule": {"ende": 1}}, "unknown key 'schedule.ende'"),
        ({"schedule": {"level": False}}, "schedule.level is False (bool), not float"),
        ({"__class__": 1}, "unknown key '__class__'"),
    ],
)
def test_merge_is_as_strict_as_reading(overrides: dict, message: str) -> None:
    """An override that does not fit is refused by its path."""
    with pytest.raises(UsageError) as caught:
        config.merge(Run(name="a"), overrides)
    assert caught.value.what == message


def test_replace_at_reaches_through_parts() -> None:
    """A dotted path names one value, at any depth."""
    run = Run(name="a", schedule=Ramp())
    assert config.replace_at(run, "schedule.end", 2.5).schedule == Ramp(end=2.5)
    assert config.replace_at(run, "seed", 4) == dataclasses.replace(run, seed=4)
    assert config.replace_at(run, "schedule.part", "flat").schedule == Flat()
    with pytest.raises(UsageError, match=r"unknown key 'schedule\.ende'"):
        config.replace_at(run, "schedule.ende", 2.5)


def test_differences_name_each_leaf() -> None:
    """Two runs that differ in a value and a part: one row each, and one for every knob only one side has."""
    a = Run(name="a", model=Model(width=8))
    b = Run(name="a", model=Model(width=16), schedule=Ramp())
    assert sorted(config.differences(a, b)) == [
        ("model.width", 8, 16),
        ("schedule.end", None, 1.0),
        ("schedule.knots", None, []),
        ("schedule.level", 1.0, None),
        ("schedule.part", "flat", "ramp"),
        ("schedule.start", None, 0.0),
    ]


def test_a_fingerprint_is_the_hash_of_canonical_json() -> None:
    """Anybody can compute it with sha256sum: sorted keys, no spaces, ASCII."""
    import hashlib  # the independent truth

    text = '{"dropout":0.0,"norm":"rms","tied":true,"width":8,"window":null}'
    assert config.fingerprint(Model(width=8, norm="rms")) == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_a_fingerprint_ignores_the_order_of_keys_and_sees_every_value() -> None:
    """Plain values have fingerprints too."""
    assert config.fingerprint({"a": 1, "b": 2}) == config.fingerprint({"b": 2, "a": 1})
    assert config.fingerprint({"a": 1, "b": 2}) != config.fingerprint({"a": 2, "b": 1})
    assert config.fingerprint(Flat()) != config.fingerprint({"level": 1.0})


def test_a_fingerprint_is_the_same_in_every_process() -> None:
    """Processes with other hash seeds agree."""
    value = {"b": ["ü", 1e-5, None, True], "a": {"x": 0.1, "y": -0.0}}
    code = f"from gpuday.core.config import fingerprint; print(fingerprint({value!r}))"
    for hash_seed in ("0", "1", "12345"):
        environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path), "PYTHONIOENCODING": "utf-8"}
        out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert out.stdout.strip() == config.fingerprint(value)


def test_toml_is_read_as_tables(tmp_path) -> None:
    """A user's preset merges into a recipe."""
    path = tmp_path / "mine.toml"
    path.write_text('seed = 5\n[model]\nwidth = 32\n[schedule]\npart = "ramp"\nknots = [0, 0.5]\n')
    merged = config.merge(Run(name="a"), config.read_toml(path))
    assert merged == Run(name="a", seed=5, model=Model(width=32), schedule=Ramp(knots=(0.0, 0.5)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a = \n", "line 1"),
        (b"a = 1\na = 2\n", "line 2"),
        (b"\xff\xfe", "not valid TOML"),
        (b"a = " + b"[" * 50_000, "not valid TOML"),
        (b"#" * (1 << 21), "2,097,152 bytes"),
    ],
)
def test_what_is_no_toml_is_refused_by_file_and_line(tmp_path, data: bytes, message: str) -> None:
    """Syntax, duplicate keys, encoding, depth and size: one sentence each."""
    path = tmp_path / "mine.toml"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=message) as caught:
        config.read_toml(path)
    assert "mine.toml" in caught.value.what


def test_a_missing_toml_file_is_named(tmp_path) -> None:
    """So is a folder in its place."""
    with pytest.raises(UsageError, match=r"absent\.toml"):
        config.read_toml(tmp_path / "absent.toml")
    with pytest.raises(UsageError, match="cannot read"):
        config.read_toml(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("1e-3", 1e-3),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ('"24"', "24"),
        ("adamw", "adamw"),
        ("10m", "10m"),
        ("", ""),
        ('{ part = "ramp", end = 2 }', {"part": "ramp", "end": 2}),
        ("[" * 50_000, "[" * 50_000),
    ],
)
def test_a_value_on_the_command_line_is_toml_or_a_word(text: str, expected: object) -> None:
    """What TOML does not know is taken as it stands."""
    value = config.parse_value(text)
    assert value == expected
    assert type(value) is type(expected)
