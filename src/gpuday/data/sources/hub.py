"""A data set of the Hugging Face hub, streamed through the `datasets` library (extra `[hub]`)."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gpuday.core.errors import DataError, EnvironmentFault
from gpuday.data.document import Document, Drop, DropCounter
from gpuday.data.sources import Source


@dataclass(frozen=True, kw_only=True)
class Hub(Source):
    """One split of a hub data set, or of a local folder that `datasets` can load."""

    name: str = ""
    """`owner/name` on the hub, or a local path."""
    config: str = ""
    """Configuration of the data set; empty for its only one."""
    split: str = "train"
    """Split to read."""
    column: str = "text"
    """Column that holds the text."""
    revision: str = "main"
    """Branch, tag or commit; give a commit for a run that must be repeatable."""

    def documents(self, drops: DropCounter) -> Iterator[Document]:
        """Documents in the hub's order. Raises EnvironmentFault without `datasets`, DataError without the column."""
        try:
            datasets = importlib.import_module("datasets")
        except ImportError as error:
            raise EnvironmentFault(
                "hub: corpora need the library 'datasets'", where=self.name, fix="pip install 'gpuday[hub]'"
            ) from error
        try:
            rows = datasets.load_dataset(
                self.name, self.config or None, split=self.split, streaming=True, revision=self.revision
            )
        except (OSError, ValueError) as error:  # the library's own errors derive from these
            raise DataError(f"cannot load {self.name}: {error}", fix="check name, config, split and network") from error
        label = self.name.rsplit("/", 1)[-1]
        for number, row in enumerate(rows):
            if self.column not in row:
                columns = ", ".join(sorted(map(str, row)))
                raise DataError(f"{self.name} has no column {self.column!r}", fix=f"its columns are: {columns}")
            text = row[self.column]
            identity = f"{label}:{number}"
            if not isinstance(text, str) or not text.strip():
                drops.add("read", Drop("empty document", identity))
                continue
            # Lone surrogates cannot be written as UTF-8, and the tokenizer refuses them.
            yield Document(text.encode("utf-8", "replace").decode(), identity, label, identity)

    def fingerprint(self) -> dict[str, Any]:
        """The coordinates of the data set; its content is as fixed as `revision` is."""
        return {
            "kind": "hub",
            "name": self.name,
            "config": self.config,
            "split": self.split,
            "column": self.column,
            "revision": self.revision,
        }
