from pathlib import Path

import numpy as np
import pytest
import xxhash

from gpuday.core.errors import DataError
from gpuday.data.arrayfile import HEADER_BYTES, open_array, read_header, seal, unseal, verify_array, write_array


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


def test_a_sealed_dictionary_comes_back_or_is_refused() -> None:
    """A changed number is found."""
    raw = seal({"rows": 12, "name": "é"})
    assert unseal(raw, Path("index.json")) == {"rows": 12, "name": "é"}
    with pytest.raises(DataError, match=r"index\.json"):
        unseal(raw.replace(b"12", b"13"), Path("index.json"))
    with pytest.raises(DataError, match=r"index\.json"):
        unseal(raw[:-2], Path("index.json"))
