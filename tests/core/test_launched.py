"""What a launcher says: who this process is among the ranks, and who speaks for them."""

import pytest

from gpuday.core.errors import UsageError
from gpuday.core.launched import NAMES, by_launcher, leads, place


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without a launcher."""
    for name in (*NAMES, "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_launcher_a_process_is_alone_and_leads() -> None:
    """The default of every command."""
    assert place() == (0, 1, 0)
    assert leads() and not by_launcher()


def test_a_launcher_says_which_of_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the first of them speaks for all."""
    said = {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert place() == (0, 4, 0) and leads() and by_launcher()
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert place() == (3, 4, 1) and not leads()


def test_what_no_launcher_says_is_refused_and_still_somebody_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error itself has to be said; who ends by a signal asks no more than whether it is the first."""
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(UsageError, match="no rank can be made of RANK=1") as caught:
        place()
    assert "torchrun" in caught.value.fix
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(UsageError, match="RANK is 'one', not a number"):
        place()
    assert not leads()
