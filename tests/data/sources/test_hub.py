import sys
from types import SimpleNamespace
from typing import Any

import pytest

from gpuday.core.errors import DataError, EnvironmentFault
from gpuday.data.document import DropCounter
from gpuday.data.sources.hub import Hub


def install(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]] | Exception) -> list[tuple[Any, ...]]:
    """A stand-in for the library, which is an extra; returns the calls that it gets."""
    calls = []

    def load_dataset(name: str, config: str | None, **options: Any) -> list[dict[str, Any]]:
        calls.append((name, config, options))
        if isinstance(rows, Exception):
            raise rows
        return rows

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return calls


def test_rows_are_streamed_as_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty ones are counted, and what cannot be written as UTF-8 is replaced."""
    calls = install(monkeypatch, [{"text": "one"}, {"text": " "}, {"text": None}, {"text": "a\ud800b"}])
    drops = DropCounter()
    documents = list(Hub(name="owner/set", config="en", split="test", revision="abc").documents(drops))
    assert [(d.id, d.text, d.source) for d in documents] == [("set:0", "one", "set"), ("set:3", "a?b", "set")]
    assert drops.count("read", "empty document") == 2
    assert calls == [("owner/set", "en", {"split": "test", "streaming": True, "revision": "abc"})]


def test_another_column_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that is not there is an error that lists those that are."""
    install(monkeypatch, [{"body": "one"}])
    assert [d.text for d in Hub(name="a", column="body").documents(DropCounter())] == ["one"]
    with pytest.raises(DataError) as fault:
        list(Hub(name="a").documents(DropCounter()))
    assert "body" in fault.value.fix


def test_without_the_library_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra that brings it."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(EnvironmentFault) as fault:
        list(Hub(name="a").documents(DropCounter()))
    assert "gpuday[hub]" in fault.value.fix


def test_a_data_set_that_is_not_there_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a traceback of the library."""
    install(monkeypatch, FileNotFoundError("no such set"))
    with pytest.raises(DataError, match="cannot load owner/set: no such set"):
        list(Hub(name="owner/set").documents(DropCounter()))


def test_the_fingerprint_holds_every_knob() -> None:
    """A changed split or revision is another corpus."""
    knobs = ({}, {"name": "b"}, {"config": "x"}, {"split": "test"}, {"column": "c"}, {"revision": "d"})
    found = [str(Hub(**k).fingerprint()) for k in knobs]
    assert len(set(found)) == len(found)
