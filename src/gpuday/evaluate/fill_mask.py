"""What a run makes of a missing word: held-out text with one whole word masked, or the user's own prompts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gpuday.core.errors import UsageError
from gpuday.core.seeds import generator
from gpuday.data.words import WordQuestion
from gpuday.train.trained import Trained

MASKS = ("<mask>", "[MASK]")
TOP = 5
AROUND = 24  # tokens shown on either side of the mask; the model sees the whole row
LEAST_LETTERS = 4  # shorter words are mostly articles and prepositions, which grammar alone gives away


def samples(
    trained: Trained, prompts: Sequence[str] | None = None, *, count: int = 5, seed: int = 0
) -> list[dict[str, Any]]:
    """`count` filled masks: {"text", "truth", "predictions": [{"token", "probability"}, ...]}, likeliest first.

    Without prompts: rows of the run's held-out text, one word in each, chosen by the seed; fewer if there are fewer.
    With prompts: one for each, `truth` being None. Raises UsageError for a prompt that does not have one `<mask>`.
    """
    if prompts is not None:
        return [_sample(trained, *_prompt(trained, p), truth=None) for p in prompts]
    question = WordQuestion.open(trained.run.data / "heldout.words")
    chosen = held_out_words(trained, question, count=count, seed=seed)
    return [_sample(trained, question.labels[row], position, truth=truth) for row, position, truth in chosen]


def held_out_words(trained: Trained, question: WordQuestion, *, count: int, seed: int) -> list[tuple[int, int, str]]:
    """(row, position, word) of words of one token, each from another row; the same for the same text and seed.

    A target with no target beside it is a whole white-space-delimited word, whatever the tokenizer.
    """
    found: list[tuple[int, int, str]] = []
    draw = generator(seed, "samples")
    for row in draw.permutation(len(question.labels)).tolist():
        alone = np.flatnonzero(_alone(question.is_target[row]))
        words = [(int(p), trained.tokenizer.decode([int(question.labels[row, p])])) for p in alone]
        real = [(p, word) for p, word in words if word.isalpha() and len(word) >= LEAST_LETTERS]
        if real:
            found.append((row, *real[int(draw.integers(len(real)))]))
        if len(found) == count:
            break
    return found


@torch.inference_mode()
def _sample(trained: Trained, ids: NDArray[np.int64], position: int, *, truth: str | None) -> dict[str, Any]:
    """`ids` [L] is a row, padded at its end; the token at `position` is masked, whatever it is."""
    tokenizer = trained.tokenizer
    row = ids[ids != tokenizer.pad_id].copy()
    row[position] = tokenizer.mask_id
    logits = trained.predictor(
        torch.from_numpy(row)[None].to(trained.device), torch.tensor([position], device=trained.device)
    )[0].float()
    logits[list(tokenizer.special_ids)] = -torch.inf  # no token of text; the share they had is spread over the rest
    top = logits.softmax(-1).topk(TOP)
    first = max(0, position - AROUND)
    while first < position and tokenizer.decode([int(row[first])]).startswith("##"):
        first += 1  # the rest of a word that begins outside
    before, after = row[first:position], row[position + 1 : position + 1 + AROUND]
    return {
        "text": " ".join(
            part for part in (tokenizer.decode(before.tolist()), MASKS[0], tokenizer.decode(after.tolist())) if part
        ),
        "truth": truth,
        "predictions": [
            {"token": tokenizer.decode([token]), "probability": probability}
            for token, probability in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ],
    }


def _prompt(trained: Trained, prompt: str) -> tuple[NDArray[np.int64], int]:
    """(row, position of the mask), with the special tokens that surround documents in training rows."""
    for mask in MASKS[1:]:
        prompt = prompt.replace(mask, MASKS[0])
    if prompt.count(MASKS[0]) != 1:
        raise UsageError(f"{prompt!r} does not have one {MASKS[0]}", fix=f"write {MASKS[0]} for the missing word")
    tokenizer, data = trained.tokenizer, trained.recipe.data
    before, after = tokenizer.encode_batch([part.strip() for part in prompt.split(MASKS[0])])
    start = [tokenizer.cls_id, *before] if data.cls else before
    row = [*start, tokenizer.mask_id, *after, *([tokenizer.sep_id] if data.sep else [])]
    length = trained.model.encoder.length
    if len(row) > length:
        raise UsageError(f"a prompt has {len(row)} tokens, the model takes {length}", fix="shorten it")
    return np.array(row, dtype=np.int64), len(start)


def _alone(targets: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Targets [L] whose neighbours are none."""
    padded = np.pad(targets, 1)
    return targets & ~padded[:-2] & ~padded[2:]
