"""No change."""

import pytest

from gpuday.schedules.constant import Constant


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0, 1.1])
def test_a_constant_is_its_value(fraction):
    """1 by default."""
    assert Constant()(fraction) == 1.0
    assert Constant(value=0.25)(fraction) == 0.25
