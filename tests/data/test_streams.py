import gzip
import lzma
import os
from pathlib import Path

import pytest
import zstandard

from gpuday.core.errors import DataError
from gpuday.data import streams
from gpuday.data.streams import DecodedLimit, check_regular, open_decoded

COMPRESS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.ZstdCompressor().compress}
TEXT = b"".join(b"line %d of a text that compresses\n" % i for i in range(20_000))


def write(folder: Path, suffix: str, raw: bytes = TEXT) -> Path:
    path = folder / f"a.txt{suffix}"
    path.write_bytes(COMPRESS[suffix](raw))
    return path


@pytest.mark.parametrize("suffix", list(COMPRESS))
def test_every_compression_gives_the_bytes_back(tmp_path: Path, suffix: str) -> None:
    """What comes out of the stream is what went into the file."""
    with open_decoded(write(tmp_path, suffix)) as stream:
        assert stream.read() == TEXT


def test_zstd_frames_one_after_the_other_are_one_stream(tmp_path: Path) -> None:
    """Files that were joined with `cat` are read to their end."""
    path = tmp_path / "a.txt.zst"
    path.write_bytes(COMPRESS[".zst"](TEXT) + COMPRESS[".zst"](b"more"))
    with open_decoded(path) as stream:
        assert stream.read() == TEXT + b"more"


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_cut_off_file_is_an_error_that_names_it(tmp_path: Path, suffix: str) -> None:
    """A half download never passes for a shorter corpus."""
    path = write(tmp_path, suffix)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=path.name), open_decoded(path) as stream:
        stream.read()


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_file_of_other_content_is_an_error_that_names_it(tmp_path: Path, suffix: str) -> None:
    """A text file under the name of a compressed one is refused."""
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(TEXT)
    with pytest.raises(DataError, match=path.name), open_decoded(path) as stream:
        stream.read()


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """Decoding stops soon after the ratio is exceeded (here after 1 MiB instead of 64)."""
    monkeypatch.setattr(streams, "RATIO_FREE_BYTES", 1 << 20)
    path = write(tmp_path, suffix, bytes(24 << 20))
    decoded = 0
    with pytest.raises(DataError, match="bomb"), open_decoded(path) as stream:
        while chunk := stream.read(1 << 20):
            decoded += len(chunk)
    assert decoded < 12 << 20


def test_no_file_decodes_to_more_than_the_cap() -> None:
    """The absolute cap holds at any ratio."""
    limit = DecodedLimit(Path("a.gz"), 10**12)
    limit.add(streams.MAX_DECODED_BYTES)
    with pytest.raises(DataError, match=r"a\.gz decodes to more than"):
        limit.add(1)


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    """A pipe would block for ever, a device would never end, a link to itself leads nowhere."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / "pipe", tmp_path / "loop", tmp_path / "missing", tmp_path, Path("/dev/zero")):
        with pytest.raises(DataError, match=str(path)):
            check_regular(path)


def test_a_window_that_is_too_large_is_not_taken_for_damage(tmp_path: Path) -> None:
    """`zstd --long=28` and large dictionaries of xz: fetching such a file again would not help."""
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (tmp_path / "a.txt.zst").write_bytes(packer.compress(TEXT) + packer.flush())
    large = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 28}]
    (tmp_path / "a.txt.xz").write_bytes(lzma.compress(TEXT, filters=large))
    for path in tmp_path.iterdir():
        with pytest.raises(DataError, match=path.name) as caught, open_decoded(path) as stream:
            stream.read()
        assert "window of at most 128 MiB" in caught.value.fix


def test_a_text_about_pdf_is_text(tmp_path: Path) -> None:
    """A PDF has bytes at its beginning that no text has."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"%PDF-1.4 is how such files begin. \xc3\xa9\n" * 1000)
    with open_decoded(path) as stream:
        assert len(stream.read()) == path.stat().st_size
    for more in (b"\n%\xe2\xe3\xcf\xd3\n1 0 obj", b"\n\0"):
        path.write_bytes(b"%PDF-1.4" + more)
        with pytest.raises(DataError, match="holds PDF data"):
            open_decoded(path)
