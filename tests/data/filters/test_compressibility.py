import numpy as np
import pytest

from gpuday.data.document import Document
from gpuday.data.filters.compressibility import Compressibility


@pytest.mark.parametrize(("tokens", "kept"), [(24, True), (25, False), (26, False)])
def test_a_document_is_kept_below_the_cutoff(tokens: int, kept: bool) -> None:
    """100 characters at a cutoff of 0.25: 24 tokens pass, 25 do not."""
    document = Document("x" * 100, "a", "s", "a")
    assert (Compressibility(cutoff=0.25)(document, np.full(tokens, 5)) is None) == kept


def test_the_reason_names_the_cutoff() -> None:
    """So that drops.json says by which rule."""
    assert Compressibility()(Document("x", "a", "s", "a"), np.array([5])) == "at least 0.3 tokens per character"
