"""No change."""

import pytest

from gpuday.schedules.constant import Constant


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0, 1.1])
def test_a_constant_is_its_value(fraction):
    """1 by default."""
    assert Constant()(fraction) == 1.0
    assert Constant(value=0.25)(fraction) == 0.25


def test_a_constant_with_phases_is_a_trapezoid_of_its_height():
    """Up to a half over a fifth, down to a tenth over two fifths."""
    rate = Constant(value=0.5, warmup=0.2, cooldown=0.4, end=0.1)
    assert [rate(f) for f in (0.0, 0.1, 0.3, 0.6, 0.8, 1.0)] == pytest.approx([0.0, 0.25, 0.5, 0.5, 0.3, 0.1])
