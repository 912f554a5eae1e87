"""How long a size is timed."""

import pytest
from speed import rounds_in


@pytest.mark.parametrize(("one", "rounds"), [(24.0, 1), (3.5, 3), (1.0, 13), (0.01, 31)])
def test_rounds_are_odd_and_fit_the_time(one: float, rounds: int) -> None:
    """Twelve seconds hold one slow round, three of 3.5 seconds; never more than 31, whose median is settled."""
    assert rounds == rounds_in(12.0, one)
