"""Configs: what an error says to type instead of an unknown path or of a value in a wrong form."""

from pathlib import Path
from typing import Any

import pytest

from gpuday import presets
from gpuday.core import config
from gpuday.core.clock import Budget
from gpuday.core.errors import UsageError
from gpuday.recipe import Recipe

MODERN = presets.find("modern")("nano", Budget.parse("10m"))


def test_every_path_of_a_config_can_be_set() -> None:
    """Values, tables and parts' names, at any depth; nothing else is listed."""
    found = config.paths(MODERN)
    assert {"seed", "model", "model.shape.layers", "rate.part", "optimizer.rest.lr"} <= set(found)
    assert len(found) == len(set(found))
    for path in found:
        with pytest.raises(UsageError) as caught:
            config.replace_at(MODERN, path, object())
        assert not isinstance(caught.value, config.UnknownKey)


@pytest.mark.parametrize(
    ("path", "fix"),
    [
        ("modle.width", "did you mean 'model.width'?"),
        ("model.widht", "did you mean 'model.width'?"),
        ("rate.prat", "did you mean 'rate.part'?"),
        ("layers", "did you mean 'model.shape.layers'?"),
        ("seed.x", "seed is one value, now 0, and holds no others"),
    ],
)
def test_an_unknown_path_gets_the_whole_nearest_one(path: str, fix: str) -> None:
    """As it is to be typed, from the top."""
    with pytest.raises(config.UnknownKey) as caught:
        config.replace_at(MODERN, path, 1)
    assert (caught.value.key, caught.value.fix) == (path, fix)


@pytest.mark.parametrize(
    ("key", "value", "fix"),
    [
        ("seed", "7", "write 7, without quotes"),
        ("seed", 7.0, "write 7"),
        ("seed", 7.5, "give a whole number"),
        ("model.dropout", "0.5", "write 0.5, without quotes"),
        ("model.dropout", "0,5", "write 0.5"),
        ("model.dropout", ".5", "write 0.5"),
        ("model.dropout", "1,000", "give a number"),
        ("model.dropout", "1,000,000.5", "give a number"),
        ("model.dropout", "0,1234", "write 0.1234"),
        ("model.dropout", "x", "give a number"),
        ("model.tied", "True", "write true"),
        ("model.tied", "true", "write true, without quotes"),
        ("model.norm", "layernrom", "did you mean 'layernorm'? (one of layernorm, rmsnorm, scalenorm)"),
        ("model.norm", "x", "give one of layernorm, rmsnorm, scalenorm"),
        ("data.corpus", "x", 'write ["x"]'),
        ("batch", 3, "give one of its values: batch.rows, batch."),
    ],
)
def test_a_value_in_a_wrong_form_is_shown_in_the_right_one(key: str, value: Any, fix: str) -> None:
    """So that it can be copied."""
    with pytest.raises(UsageError) as caught:
        config.replace_at(MODERN, key, value)
    assert caught.value.fix.startswith(fix)


@pytest.mark.parametrize("key", ["0,5", ".5", "True"])
def test_nobody_is_told_to_leave_out_quotes_that_were_not_there(key: str) -> None:
    """On a command line these are texts without any."""
    with pytest.raises(UsageError) as caught:
        config.replace_at(MODERN, "model.tied" if key == "True" else "model.dropout", key)
    assert "quotes" not in caught.value.fix


@pytest.mark.parametrize(
    "value", ["0x" + "f" * 4000, '"1' + "0" * 400 + '"', "1" + "0" * 400, '["' + "x" * 5000 + '"]', "[" * 90 + "]" * 90]
)
@pytest.mark.parametrize(
    "key",
    [
        "train.dtype",
        "train.compile",
        "train.microbatch",
        "train.isolate",
        "optimizer.lr",
        "data.corpus",
        "data.vocab",
        "optimizer",
        "rate.part",
    ],
)
def test_a_value_too_long_to_write_is_a_short_error(key: str, value: str) -> None:
    """Whatever the key takes: a choice, true or false, a number, a text, a list, a part."""
    if key == "data.corpus" and value.startswith('["'):
        return  # a list of one long text is what it takes
    with pytest.raises(UsageError) as caught:
        config.replace_at(MODERN, key, config.parse_value(value))
    assert len(str(caught.value)) < 6000 if key in ("optimizer", "rate.part") else len(str(caught.value)) < 1000


def test_toml_of_another_system_is_read(tmp_path: Path) -> None:
    """With the mark and the line ends of Windows."""
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfa = 1\r\nb = 2\r\n")
    assert config.read_toml(tmp_path / "a.toml") == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", -1),
        ("data.seed", -1),
        ("data.length", 1 << 20),
        ("data.vocab", 1 << 32),
        ("batch.rows", 1 << 40),
        ("train.microbatch", 1 << 40),
        ("train.validate_every", 2.0),
        ("model.shape.layers", 100_000),
        ("model.width", 1 << 30),
        ("model.init_std", -1.0),
        ("model.norm_eps", -1.0),
        ("optimizer.momentum", 2.0),
        ("optimizer.iterations", 10_000),
        ("optimizer.rest.beta1", -3.0),
        ("optimizer.rest.beta2", 1.5),
    ],
)
def test_a_number_that_no_run_can_use_is_refused_where_it_is_given(path: str, value: float) -> None:
    """And not after hours of preparation; also when it stands in a recipe.json."""
    with pytest.raises(UsageError, match=path.rpartition(".")[2]):
        config.replace_at(MODERN, path, value)
    plain = table = config.to_dict(MODERN)
    *tables, key = path.split(".")
    for name in tables:
        table = table[name]
    table[key] = value
    with pytest.raises(UsageError, match=key):
        config.from_dict(Recipe, plain)
