from pathlib import Path

import pytest

from gpuday.core.errors import DataError, UsageError
from gpuday.data.corpus import parse_source, refuse_cache_within, refuse_changed, refuse_leak, tell_closed
from gpuday.data.sources import Source
from gpuday.data.sources.files import Files
from gpuday.data.sources.hub import Hub
from gpuday.data.sources.pydocs import Pydocs
from gpuday.data.sources.synthetic import Synthetic


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pydocs", Pydocs()),
        ("synthetic", Synthetic()),
        ("synthetic:500", Synthetic(words=500)),
        ("hub:owner/name", Hub(name="owner/name")),
        ("hub:name:en", Hub(name="name", config="en")),
        ("hub:name:en:test", Hub(name="name", config="en", split="test")),
        ("hub:name::test", Hub(name="name", split="test")),
        ("./pydocs", Files(path="./pydocs")),
        ("texts/*.txt", Files(path="texts/*.txt")),
    ],
)
def test_every_form_of_a_corpus_is_understood(text: str, expected: Source) -> None:
    """Each form of SRC gives its source."""
    assert parse_source(text) == expected


def test_the_separator_reaches_files() -> None:
    """`--documents line` is about txt files."""
    assert parse_source("a.txt", documents="line") == Files(path="a.txt", separator="line")


@pytest.mark.parametrize("text", ["", "hub:", "hub:a:b:c:d", "synthetic:many", "synthetic:0"])
def test_a_malformed_corpus_is_refused(text: str) -> None:
    """The error shows the form that it should have."""
    with pytest.raises(UsageError) as fault:
        parse_source(text)
    assert fault.value.fix


def test_the_corpus_is_no_held_out_text() -> None:
    """Equal fingerprints are the same text, whatever it is called."""
    refuse_leak([{"a": 1}], [{"a": 2}])
    with pytest.raises(DataError, match="the held-out text is the corpus itself"):
        refuse_leak([{"b": 1}, {"a": 1}], [{"a": 1}])


def test_files_that_changed_are_named(tmp_path: Path) -> None:
    """By their fingerprints before and after."""
    (tmp_path / "a.txt").write_text("one")
    source = parse_source(str(tmp_path / "a.txt"))
    before = source.fingerprint()
    refuse_changed([source], [before])
    (tmp_path / "a.txt").write_text("two")
    with pytest.raises(DataError, match=r"a\.txt changed while it was read"):
        refuse_changed([source], [before])


def test_what_lies_beside_the_text_may_come_and_go(tmp_path: Path) -> None:
    """An editor's swap file ends no preparation; another text does."""
    (tmp_path / "a.txt").write_text("one")
    source = parse_source(str(tmp_path))
    before = source.fingerprint()
    (tmp_path / ".a.txt.swp").write_text("one more")
    refuse_changed([source], [before])
    (tmp_path / "b.txt").write_text("two")
    with pytest.raises(DataError, match="changed while it was read"):
        refuse_changed([source], [before])


def test_a_cache_within_the_corpus_is_refused(tmp_path: Path) -> None:
    """It would make it another corpus each time; a link does not hide it. A file beside the cache is no such corpus."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "link").symlink_to(tmp_path)
    for corpus in (tmp_path, tmp_path / "link"):
        with pytest.raises(UsageError, match="lies in the corpus") as caught:
            refuse_cache_within([parse_source(str(corpus))], tmp_path / "cache" / "data")
        assert "GPUDAY_CACHE" in caught.value.fix
    others = [str(tmp_path / "texts"), str(tmp_path / "a.txt"), f"{tmp_path}/*.txt", "pydocs"]
    refuse_cache_within([parse_source(text) for text in others], tmp_path / "cache" / "data")


def test_folders_that_may_not_be_read_are_told() -> None:
    """The first few by name; a source without any says nothing."""
    told: list[str] = []
    closed = [f"f{i}" for i in range(7)]
    tell_closed(["a", "b"], [{"closed": closed}, {}], lambda event, message: told.append(f"{event} {message}"))
    assert told == ["notice a: folders that may not be read are left out: f0, f1, f2, f3, f4 and 2 more"]
