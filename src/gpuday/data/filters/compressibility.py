"""Drop text that the tokenizer compresses badly: markup, code, other languages.

Geiping & Goldstein, "Cramming: Training a Language Model on a Single GPU in One Day" (arXiv:2212.14034), section 4.4.
Their runs counted with a pretrained tokenizer; this counts with the tokenizer of the corpus itself.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpuday.data.document import Document
from gpuday.data.filters import Filter


@dataclass(frozen=True, kw_only=True)
class Compressibility(Filter):
    """Keep a document iff it has fewer than `cutoff` tokens per character."""

    cutoff: float = 0.3
    """Tokens per character; the paper says 0.3, its final recipe ran with 0.25."""

    def __call__(self, document: Document, ids: NDArray[np.int64]) -> str | None:
        if len(ids) < self.cutoff * len(document.text):
            return None
        return f"at least {self.cutoff:g} tokens per character"
