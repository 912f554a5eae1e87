import pytest

from gpuday.core.errors import UsageError
from gpuday.data.corpus import parse_source
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
