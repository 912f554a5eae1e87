"""Absent paths: the likeliest reason, and what to type instead."""

import os
from pathlib import Path

import pytest

from gpuday.core import absent
from gpuday.core.absent import why_absent


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a text and a folder of runs."""
    (tmp_path / "text.txt").write_text("a")
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("texts.txt", "did you mean 'text.txt'?"),
        ("runs/mnie", "did you mean 'runs/mine'?"),
        ("./text.tx", "did you mean 'text.txt'?"),
        ("text.txt ", "write 'text.txt', without the blanks around it"),
        ("https://example.org/text.txt", "download it first: paths and hub:NAME are read, URLs are not"),
        ("no/text.txt", "check the path: the folder no is not there either"),
        ("quite-another", "check the path"),
        ("pydosc", "did you mean 'pydocs'?"),
    ],
)
def test_a_reason_is_given_with_what_to_type(text: str, said: str) -> None:
    """A name that is near, a blank, an address; and no guess where there is none."""
    assert why_absent(text, also=["pydocs"]) == said


def test_a_tilde_is_written_out() -> None:
    """As the shell would have."""
    assert why_absent("~/a.txt").startswith(f"write {os.path.expanduser('~')}/a.txt: the shell opens ~")


def test_a_folder_that_may_not_be_read_suggests_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason given is then the plain one."""

    def refuse(_: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(os, "scandir", refuse)
    assert why_absent("texts.txt") == "check the path"


def test_a_full_folder_is_no_wait(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many names only some that are about as long are compared; a beginning is found whatever its length."""
    compared = []
    monkeypatch.setattr(absent, "closest", lambda word, names: compared.append([*names]) or [])
    for i in range(1500):
        (place / f"corpus{i:04d}.jsonl").touch()
    (place / "c").touch()
    why_absent("corpus123.jsonl")
    why_absent("tex")
    near, begun = compared[0], compared[2]
    assert len(near) == absent.MOST_COMPARED
    assert {len(name) for name in near} == {16}
    assert "text.txt" in begun and "c" in begun and len(begun) < 5
