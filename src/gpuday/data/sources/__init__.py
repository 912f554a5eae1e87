"""Where text comes from. One file per source."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from gpuday.core.parts import Part
from gpuday.data.document import Document, DropCounter


class Source(Part, ABC):
    """A stream of documents that can be read again and again, each time the same."""

    @abstractmethod
    def documents(self, drops: DropCounter) -> Iterator[Document]:
        """All documents in a fixed order; what cannot be used is counted in `drops`."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """JSON values, equal exactly when the documents are, found without reading all of them."""
