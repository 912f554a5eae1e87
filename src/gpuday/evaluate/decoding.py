"""From scores to answers: the tag of every word, the piece of text that answers a question.

Shapes: M token rows, L tokens in a row, C classes, W words.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuday.evaluate.encoding import Windows
from gpuday.evaluate.tasks.rows import Rows

OUTSIDE = "O"
MOST_ANSWER_TOKENS = 30  # as in the code of arXiv 1810.04805


def tags_of_words(tags: NDArray[np.int64], words: NDArray[np.int64], unread: int) -> NDArray[np.int64]:
    """Tags int64 [W] from those of tokens [N, L] at each word's first token; `unread` for words that were cut off (-1)."""
    return np.where(words < 0, unread, tags.ravel()[words])


def unread_tag(classes: Sequence[str], known: NDArray[np.int64]) -> int:
    """The tag of words that were cut off: "O", which is no entity; where there is none, the commonest of the known ones."""
    return classes.index(OUTSIDE) if OUTSIDE in classes else int(np.bincount(known).argmax())


def best_spans(scores: Tensor, context: Tensor) -> Tensor:
    """The likeliest answer in each window: float [M, 4] of its score, first and last token, and the score of no answer.

    scores [M, L, 2] of first and last tokens, context [M, L] bool where they may be. An answer has at most 30 tokens; no
    answer has the score of position 0. The score is -inf where there is no context.
    """
    first, last = (scores[..., i].masked_fill(~context, -torch.inf) for i in (0, 1))
    length = scores.shape[1]
    behind = torch.arange(length, device=scores.device)
    distance = behind - behind[:, None]
    allowed = (distance >= 0) & (distance < MOST_ANSWER_TOKENS)
    sums = (first[:, :, None] + last[:, None, :]).masked_fill(~allowed, -torch.inf).flatten(1)
    best, place = sums.max(1)
    absent = scores[:, 0, 0] + scores[:, 0, 1]
    return torch.stack((best, (place // length).to(best), (place % length).to(best), absent), dim=1)


def answers_of_rows(
    spans: NDArray[np.float32], windows: Windows, rows: Rows, *, may_be_absent: bool
) -> tuple[str, ...]:
    """A piece of each row's context, from `best_spans` [M, 4] of its windows.

    It is empty where there is no context, or, if it may be absent, where no answer scores higher than every answer: the
    lowest such score over the windows counts, since an answer is absent only if no window holds it.
    """
    contexts = rows.text_b or ()
    best = np.full(len(rows), -np.inf)
    absent = np.full(len(rows), np.inf)
    np.maximum.at(best, windows.row, spans[:, 0])
    np.minimum.at(absent, windows.row, spans[:, 3])
    chosen = np.full(len(rows), -1, dtype=np.int64)
    wins = np.flatnonzero(spans[:, 0] == best[windows.row])[::-1]
    chosen[windows.row[wins]] = wins  # the first window of several that are equal
    found = []
    for row, window in enumerate(chosen.tolist()):
        if best[row] == -np.inf or (may_be_absent and absent[row] > best[row]):
            found.append("")
            continue
        first, last = (int(t) for t in spans[window, 1:3])
        start, stop = int(windows.characters[window, first, 0]), int(windows.characters[window, last, 1])
        found.append(contexts[row][start:stop].strip())
    return tuple(found)
