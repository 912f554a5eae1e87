from pathlib import Path

import numpy as np
import pytest
import xxhash

from gpuday.core.errors import DataError
from gpuday.core.sealed import seal_inside
from gpuday.data.arrayfile import HEADER_BYTES, open_array, read_header, verify_array, write_array


def test_an_array_comes_back(tmp_path: Path) -> None:
    """Pieces are joined; type and shape are kept; the values can be mapped."""
    pieces = [np.arange(6).reshape(3, 2), np.arange(6, 10).reshape(2, 2)]
    digest = write_array(tmp_path / "a.bin", pieces, "<u2", (2,))
    back = open_array(tmp_path / "a.bin")
    assert back.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert back.dtype == np.dtype("<u2")
    assert digest == xxhash.xxh3_128_hexdigest(np.arange(10).astype("<u2").tobytes())
    verify_array(tmp_path / "a.bin", digest)


def test_an_empty_array_comes_back(tmp_path: Path) -> None:
    """A shard may have no documents that begin in it."""
    write_array(tmp_path / "a.bin", [], "<i8")
    assert open_array(tmp_path / "a.bin").shape == (0,)


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    """One bit at each of 60 places, header and values, is found by `verify_array`."""
    path = tmp_path / "a.bin"
    digest = write_array(path, [np.arange(200)], "<u4")
    raw = path.read_bytes()
    used = len(raw[:HEADER_BYTES].rstrip())
    places = [*range(0, used, 5), *range(HEADER_BYTES, len(raw), 23)]
    for place in places:
        damaged = bytearray(raw)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.bin"):
            verify_array(path, digest)


def test_a_cut_off_array_is_found_on_opening(tmp_path: Path) -> None:
    """The size is checked without reading the values."""
    path = tmp_path / "a.bin"
    write_array(path, [np.arange(200)], "<u4")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="not what its header says"):
        open_array(path)


def test_another_file_of_the_same_form_is_not_taken_for_it(tmp_path: Path) -> None:
    """The caller's checksum decides, since a swapped file is whole in itself."""
    digest = write_array(tmp_path / "a.bin", [np.arange(3)], "<u4")
    write_array(tmp_path / "b.bin", [np.arange(3) + 1], "<u4")
    with pytest.raises(DataError, match=r"b\.bin"):
        verify_array(tmp_path / "b.bin", digest)


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    """And not an OSError."""
    with pytest.raises(DataError, match=r"a\.bin"):
        read_header(tmp_path / "a.bin")


def test_rows_of_another_shape_are_refused(tmp_path: Path) -> None:
    """A row of the wrong length would shift all that follow."""
    with pytest.raises(ValueError, match="rows of shape"):
        write_array(tmp_path / "a.bin", [np.zeros((2, 3))], "<u2", (2,))


def header_of(values: dict[str, object]) -> bytes:
    return seal_inside(values).ljust(HEADER_BYTES - 1) + b"\n"


@pytest.mark.parametrize("place", range(-40, 0, 3))
def test_the_padding_of_a_header_counts_too(tmp_path: Path, place: int) -> None:
    """A white space that became another one is damage like any other."""
    path = tmp_path / "a.bin"
    write_array(path, [np.arange(20)], "<u4")
    raw = bytearray(path.read_bytes())
    raw[HEADER_BYTES + place] ^= ord(" ") ^ ord("\t")
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"a\.bin does not match"):
        read_header(path)


@pytest.mark.parametrize(
    "change",
    [
        {"magic": "other"}, {"magic": None}, {"dtype": "|O"}, {"dtype": ">u4"}, {"dtype": 7}, {"dtype": ["<u4"]},
        {"shape": []}, {"shape": [-20]}, {"shape": [1, 4, 5]}, {"shape": 20}, {"shape": [True]}, {"shape": [20.0]},
        {"shape": ["20"]}, {"shape": [2**62, 4]}, {"xxh3": 5}, {"xxh3": None},
    ],
)  # fmt: skip
def test_a_sealed_header_that_makes_no_sense_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    """Unchanged is not the same as ours: objects, negative and overflowing sizes, wrong types, keys that are missing."""
    path = tmp_path / "a.bin"
    digest = write_array(path, [np.arange(20)], "<u4")
    header = {"magic": "gpuday-array-1", "dtype": "<u4", "shape": [20], "xxh3": digest}
    values = path.read_bytes()[HEADER_BYTES:]
    path.write_bytes(header_of(header) + values)
    assert open_array(path).tolist() == list(range(20))
    for changed in ({**header, **change}, {k: v for k, v in header.items() if k not in change}):
        path.write_bytes(header_of(changed) + values)
        with pytest.raises(DataError, match=r"a\.bin"):
            open_array(path)


def test_an_array_says_what_it_belongs_to(tmp_path: Path) -> None:
    """Where no index vouches for it."""
    write_array(tmp_path / "a.bin", [np.arange(20)], "<f4", owner="unigram of this store")
    assert read_header(tmp_path / "a.bin")["owner"] == "unigram of this store"
    write_array(tmp_path / "b.bin", [np.arange(20)], "<f4")
    assert read_header(tmp_path / "b.bin")["owner"] == ""
