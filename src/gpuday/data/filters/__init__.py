"""Rules by which a document is left out of training. One file per filter."""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from gpuday.core.parts import Part
from gpuday.data.document import Document


class Filter(Part, ABC):
    """Sees every training document together with its tokens, so that nothing is tokenized twice."""

    @abstractmethod
    def __call__(self, document: Document, ids: NDArray[np.int64]) -> str | None:
        """None to keep the document, or the reason for which it is dropped. `ids` [T]: its tokens, no special ones."""
