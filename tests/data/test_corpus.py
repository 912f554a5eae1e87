from pathlib import Path

import pytest

from gpuday.core.errors import DataError, UsageError
from gpuday.data.corpus import parse_source, refuse_changed, refuse_leak
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
