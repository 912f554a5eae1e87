"""Sealed JSON: it comes back as it was written, or not at all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuday.core import sealed
from gpuday.core.errors import DataError
from gpuday.core.sealed import Broken, DamagedFile

Seal = Callable[[dict[str, Any]], bytes]
Unseal = Callable[[bytes], dict[str, Any]]
LAYOUTS = pytest.mark.parametrize(
    ("seal", "unseal"),
    [(sealed.seal, sealed.unseal), (sealed.seal_inside, sealed.unseal_inside)],
    ids=["envelope", "inside"],
)
VALUE: dict[str, Any] = {"rows": 12, "name": "é", "list": [1.5, None, True, {"deep": "x"}]}


@LAYOUTS
@pytest.mark.parametrize("value", [VALUE, {}, {"content": {}, "xxh3_128": "x"}])
def test_a_dictionary_comes_back(seal: Seal, unseal: Unseal, value: dict[str, Any]) -> None:
    """Whatever JSON values it holds, in bytes that any JSON reader reads."""
    assert unseal(seal(value)) == value
    assert json.loads(seal(value))


@LAYOUTS
def test_every_single_bit_counts(seal: Seal, unseal: Unseal) -> None:
    """All of them, one after the other."""
    raw = seal(VALUE)
    for bit in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Broken):
            unseal(bytes(changed))


@LAYOUTS
def test_white_space_and_other_spellings_count(seal: Seal, unseal: Unseal) -> None:
    """The same values in other bytes are not what was written."""
    raw = seal(VALUE)
    same = json.dumps(json.loads(raw), indent=1).encode()
    for changed in (raw + b"\n", b" " + raw, raw.replace(b"1.5", b"1.50"), raw.replace(b"12", b"1_2"), same, raw[:-1]):
        assert changed != raw
        with pytest.raises(Broken):
            unseal(changed)


@LAYOUTS
@pytest.mark.parametrize(
    "raw", [b"", b"{", b"null", b"[]", b"5", b'"x"', b"{}", b'{"content": 5}', b"\xff", b"[" * 50_000, b"9" * 5000]
)
def test_what_was_never_sealed_is_refused(seal: Seal, unseal: Unseal, raw: bytes) -> None:
    """With the one exception that a reader expects, whatever the bytes are."""
    with pytest.raises(Broken):
        unseal(raw)


def test_the_layouts_are_those_of_the_files_that_exist() -> None:
    """By hand: checkpoints and token stores of earlier versions open."""
    assert sealed.seal({"step": 2}) == b'{"content": {"step": 2}, "xxh3_128": "%s"}' % _hash(b'{"step": 2}')
    assert sealed.seal_inside({"b": 1, "a": 2}) == b'{"b":1,"a":2,"checksum":"%s"}' % _hash(b'{"a":2,"b":1}')


def _hash(text: bytes) -> bytes:
    return sealed.digest(text).encode()


def test_a_sealed_file_that_is_missing_or_changed_is_named(tmp_path: Path) -> None:
    """A data error with the path, for people and for whoever sets it aside."""
    path = tmp_path / "index.json"
    with pytest.raises(DamagedFile, match=r"index\.json cannot be read") as caught:
        sealed.read_sealed(path)
    assert caught.value.path == path and isinstance(caught.value, DataError)
    path.write_bytes(sealed.seal_inside(VALUE))
    assert sealed.read_sealed(path) == VALUE
    path.write_bytes(path.read_bytes().replace(b"12", b"13"))
    with pytest.raises(DamagedFile, match=r"index\.json does not match its checksum"):
        sealed.read_sealed(path)


def test_content_that_must_hold_is_asked_for(tmp_path: Path) -> None:
    """Nothing happens where it does; the file and what it lacks are named where it does not."""
    sealed.require(tmp_path / "a", True, "its rows")
    with pytest.raises(DamagedFile, match="a does not say its rows"):
        sealed.require(tmp_path / "a", False, "its rows")


@pytest.mark.parametrize(
    ("value", "counts"), [(0, 1), (7, 1), (-1, 0), (True, 0), (2**63, 0), (1.0, 0), ("1", 0), (None, 0)]
)
def test_a_count_is_a_whole_number(value: object, counts: int) -> None:
    """And neither true nor text."""
    assert sealed.is_count(value) is bool(counts)
