"""Damaged and odd inputs made of valid ones, each from a seeded generator, so that every one can be made again."""

import json
import random
from typing import Any

INTERESTING = (0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**70), 10**120, 1e308, 1e-320, 0.1, float("nan"), float("inf"), "", " ", "\0",
    "\ud800", "<mask>", "../../x", "a" * 5000, "\x1b[31m", "\u202e", "nan", "1e999", [], {}, [[]], [None], {"": None}, {"part": "x"},
)  # fmt: skip
PIECES = (
    b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"\n", b"\r\n", b"\n\n", b'"', b'""', b"'", b",", b"\t", b"\\", b"{", b"}",
    b"[" * 2000, b'{"a":' * 2000, b"]", b":", b"=", b"#", b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"0x" + b"f" * 5000, b"\\ud800",
    b"\x1b[31m", b"\xe2\x80\xae", b"<mask>", b"text", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"PAR1", b" " * 3000, b"a" * 3000,
)  # fmt: skip


def mutated(draw: random.Random, valid: bytes) -> bytes:
    """One to six changes to valid bytes; now and then the valid ones, or nothing but noise."""
    kind = draw.random()
    if kind < 0.02:
        return valid
    if kind < 0.05:
        return draw.randbytes(draw.randrange(0, 400))
    data = bytearray(valid)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        draw.choice(CHANGES)(draw, data)
    return bytes(data)


def _flip(draw: random.Random, data: bytearray) -> None:
    if data:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def _insert(draw: random.Random, data: bytearray) -> None:
    at = draw.randint(0, len(data))
    data[at:at] = draw.choice(PIECES) if draw.random() < 0.7 else draw.randbytes(draw.randint(1, 20))


def _delete(draw: random.Random, data: bytearray) -> None:
    at = draw.randint(0, len(data))
    del data[at : at + draw.choice((1, 2, 8, 100))]


def _truncate(draw: random.Random, data: bytearray) -> None:
    del data[draw.randint(0, len(data)) :]


def _splice(draw: random.Random, data: bytearray) -> None:
    """A chunk moves over another place."""
    size, a, b = draw.randint(1, 200), draw.randint(0, len(data)), draw.randint(0, len(data))
    data[b : b + size] = data[a : a + size]


def _repeat(draw: random.Random, data: bytearray) -> None:
    size, at = draw.randint(1, 300), draw.randint(0, len(data))
    data[at:at] = data[at : at + size] * draw.choice((1, 2, 20))


def _integer(draw: random.Random, data: bytearray) -> None:
    """An interesting number over one, two, four or eight bytes; half of the time in the first or last hundred."""
    width = draw.choice((1, 2, 4, 8))
    place = draw.choice((range(len(data)), range(min(100, len(data))), range(max(0, len(data) - 100), len(data))))
    if len(place):
        at = draw.choice(place)
        raw = (draw.choice(INTERESTING) % 2 ** (8 * width)).to_bytes(width, draw.choice(("little", "big")))
        data[at : at + width] = raw


def _digits(draw: random.Random, data: bytearray) -> None:
    """A number in text becomes another."""
    places = [i for i, c in enumerate(data) if 48 <= c <= 57]
    if places:
        at = draw.choice(places)
        data[at : at + 1] = str(draw.choice(INTERESTING)).encode()


def _zeros(draw: random.Random, data: bytearray) -> None:
    at, size = draw.randint(0, len(data)), draw.choice((1, 16, 512))
    data[at : at + size] = bytes(len(data[at : at + size]))


CHANGES = (_flip, _flip, _insert, _insert, _delete, _truncate, _splice, _repeat, _integer, _digits, _zeros)


def reshaped(draw: random.Random, value: Any) -> Any:
    """JSON values with one to four places changed: another value, a key more or less, two swapped."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        value = _reshape(draw, value)
    return value


def _reshape(draw: random.Random, value: Any) -> Any:
    inside = isinstance(value, dict | list) and len(value) > 0
    if not inside or draw.random() < 0.1:
        return json.loads(json.dumps(draw.choice(ODD))) if draw.random() < 0.9 else [value] * draw.choice((0, 2, 50))
    value = value.copy()
    if isinstance(value, list):
        at = draw.randrange(len(value))
        match draw.randrange(5):
            case 0:
                del value[at]
            case 1:
                value.insert(at, draw.choice(ODD))
            case _:
                value[at] = _reshape(draw, value[at])
        return value
    key = draw.choice(list(value))
    match draw.randrange(8):
        case 0:
            del value[key]
        case 1:
            value[draw.choice(("", "part", "x", key + key, key.upper(), "\0", "a" * 300))] = draw.choice(ODD)
        case 2:
            value[key] = value[draw.choice(list(value))]
        case _:
            value[key] = _reshape(draw, value[key])
    return value
