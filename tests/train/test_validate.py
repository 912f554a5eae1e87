"""Held-out loss: the same question for every run, whatever its seed, its micro-batch and its moment."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gpuday.data.prepare import PreparedData
from gpuday.objectives import Learner, Vocabulary
from gpuday.train import validate
from gpuday.train.parallel import Ranks, TooLarge
from gpuday.train.validate import Answer, HeldOut

CPU = torch.device("cpu")
LENGTH = 32
MASK = 4  # its id in every trained tokenizer


class Plain(torch.nn.Module):
    """An encoder whose hidden states are what it is given; it keeps the segments."""

    def forward(self, ids: Tensor, segments: Tensor | None = None) -> Tensor:
        self.segments = segments
        return ids


class Watching(torch.nn.Module):
    """A model that keeps what it is asked and answers with logits by rule."""

    def __init__(self, vocab: int, logits: Any = None) -> None:
        super().__init__()
        self.vocab, self._logits, self.shifted = vocab, logits, False
        self.asked: list[tuple[Tensor, Tensor]] = []
        self.encoder = Plain()  # what is hidden is what is seen

    def predict(self, ids: Tensor, positions: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.asked.append((ids, positions))
        return torch.zeros(len(positions), self.vocab) if self._logits is None else self._logits(ids, positions)

    def seen(self) -> tuple[Tensor, Tensor]:
        """All rows, and all positions counted from the first row."""
        starts = np.cumsum([0, *(len(ids) for ids, _ in self.asked)])
        real = [_unpadded(ids, p) for ids, p in self.asked]
        positions = [p + int(start) * LENGTH for p, start in zip(real, starts, strict=False)]
        return torch.cat([ids for ids, _ in self.asked]), torch.cat(positions)


def _unpadded(ids: Tensor, positions: Tensor) -> Tensor:
    """What comes before the padding: real positions show the mask, and ascend."""
    positions = positions[ids.flatten()[positions] == MASK]
    falls = (positions[1:] <= positions[:-1]).nonzero()
    return positions if not len(falls) else positions[: int(falls[0]) + 1]


@pytest.fixture
def heldout(data: PreparedData, vocabulary: Vocabulary) -> HeldOut:
    return HeldOut(data.heldout, vocabulary)


def ask(heldout: HeldOut, model: torch.nn.Module, rows: int = 10_000, microbatch: int = 8) -> Answer:
    return heldout.ask(model, rows=rows, microbatch=microbatch, device=CPU, ranks=Ranks())  # type: ignore[arg-type]


def test_a_model_that_knows_nothing_pays_the_logarithm_of_the_vocabulary(
    heldout: HeldOut, vocabulary: Vocabulary
) -> None:
    """Equal logits: log(512) nats for every token, by arithmetic."""
    answer = ask(heldout, Watching(vocabulary.size))
    assert answer.nats_per_token == pytest.approx(math.log(512), rel=1e-6)
    assert answer.by_source == {"synthetic": pytest.approx(math.log(512), rel=1e-6)}
    assert answer.rows == len(heldout)


def test_a_model_that_knows_the_answer_pays_nothing(
    heldout: HeldOut, data: PreparedData, vocabulary: Vocabulary
) -> None:
    """Labels are the tokens that stood there: rows are found by their visible tokens in the store."""
    stored = torch.from_numpy(data.heldout.rows(np.arange(len(data.heldout))))

    def logits(ids: Tensor, positions: Tensor) -> Tensor:
        hidden = ids == vocabulary.mask_id
        match = ((ids[:, None, :] == stored[None]) | hidden[:, None, :]).all(-1).float().argmax(1)
        labels = stored[match].flatten()[positions]
        return 100.0 * torch.nn.functional.one_hot(labels, vocabulary.size).float()

    assert ask(heldout, Watching(vocabulary.size, logits)).nats_per_token == pytest.approx(0.0, abs=1e-6)


def test_documents_are_kept_apart_where_they_were_in_training(data: PreparedData, vocabulary: Vocabulary) -> None:
    """The encoder gets the segments of just the rows it is asked about, or none."""
    model = Watching(vocabulary.size)
    ask(HeldOut(data.heldout, vocabulary, isolate=True), model, rows=3)
    stored = data.heldout.rows(np.arange(len(data.heldout)))
    rows = [int(((stored == ids) | (ids == MASK)).all(1).argmax()) for ids in model.asked[0][0].numpy()]
    assert model.encoder.segments is not None
    assert model.encoder.segments.tolist() == data.heldout.segments(np.array(rows)).tolist()
    ask(HeldOut(data.heldout, vocabulary), model, rows=3)
    assert model.encoder.segments is None


def test_every_asked_position_shows_the_mask_and_no_other_does(
    heldout: HeldOut, data: PreparedData, vocabulary: Vocabulary
) -> None:
    """All asked tokens are replaced by <mask>; all others are as they were, row for row."""
    model = Watching(vocabulary.size)
    answer = ask(heldout, model)
    ids, positions = model.seen()
    masked = torch.zeros(ids.numel(), dtype=torch.bool)
    masked[positions] = True
    stored = data.heldout.rows(np.arange(len(data.heldout)))
    assert torch.equal(ids.flatten() == vocabulary.mask_id, masked)
    assert answer.masked == len(positions)
    visible = [
        (row[row != vocabulary.mask_id].tolist(), np.flatnonzero(row != vocabulary.mask_id)) for row in ids.numpy()
    ]
    assert all(any(s[at].tolist() == tokens for s in stored) for tokens, at in visible)


def test_fifteen_percent_are_asked(heldout: HeldOut, vocabulary: Vocabulary) -> None:
    """Within four standard deviations of a fair draw over the tokens that may be asked."""
    answer = ask(heldout, Watching(vocabulary.size))
    tokens = len(heldout) * LENGTH
    assert abs(answer.masked - 0.15 * tokens) < 4 * (0.15 * 0.85 * tokens) ** 0.5 + 0.15 * len(heldout)


class HalfSpecial:
    """A store in which every other token is a separator, and one row holds nothing else."""

    sources = ["synthetic"]

    def __init__(self, data: PreparedData, special: int) -> None:
        self.tokens = data.heldout.rows(np.arange(len(data.heldout)))
        self.tokens[:, ::2] = special
        self.tokens[3] = special

    def __len__(self) -> int:
        return len(self.tokens)

    def rows(self, indices: np.ndarray) -> np.ndarray:
        return self.tokens[indices]

    def source_of(self, indices: np.ndarray) -> np.ndarray:
        return np.zeros(len(indices), dtype=np.int64)


def test_special_tokens_are_never_asked(data: PreparedData, vocabulary: Vocabulary) -> None:
    """Every separator still stands in what the model sees, however many there are."""
    separator = data.tokenizer.sep_id
    store, model = HalfSpecial(data, separator), Watching(vocabulary.size)
    answer = ask(HeldOut(store, vocabulary), model)  # type: ignore[arg-type]
    ids, _ = model.seen()
    assert (ids == separator).sum() == (store.tokens == separator).sum() > len(store) * LENGTH / 2
    assert 0 < answer.masked < 0.12 * len(store) * LENGTH


def test_the_question_is_the_same_each_time_and_for_every_micro_batch(
    data: PreparedData, vocabulary: Vocabulary
) -> None:
    """Two loads of the store, micro-batches of 1, 7 and all rows: the same rows in the same order, masked alike."""
    seen = []
    for microbatch in (1, 7, 1000):
        model = Watching(vocabulary.size)
        ask(HeldOut(data.heldout, vocabulary), model, microbatch=microbatch)
        seen.append(model.seen())
    assert all(torch.equal(a, b) for other in seen[1:] for a, b in zip(seen[0], other, strict=True))


def test_the_answer_does_not_depend_on_the_micro_batch(heldout: HeldOut, learner: Learner) -> None:
    """The loss of a real model, within rounding."""
    answers = [ask(heldout, learner.model, microbatch=m) for m in (3, 8, 58)]
    assert [a.masked for a in answers] == [answers[0].masked] * 3
    for answer in answers[1:]:
        assert answer.nats_per_token == pytest.approx(answers[0].nats_per_token, rel=1e-6)


@pytest.mark.parametrize("rows", [1, 5, 17])
def test_a_shorter_look_asks_a_prefix_of_the_longer_one(heldout: HeldOut, vocabulary: Vocabulary, rows: int) -> None:
    """Few rows are the first of many, so that looks of one length compare."""
    short, long = Watching(vocabulary.size), Watching(vocabulary.size)
    answer = ask(heldout, short, rows=rows)
    ask(heldout, long)
    (a, pa), (b, pb) = short.seen(), long.seen()
    assert torch.equal(a, b[:rows]) and torch.equal(pa, pb[pb < rows * LENGTH])
    assert (answer.rows, answer.masked) == (rows, len(pa))


def test_rows_are_not_visited_in_the_order_of_the_corpus(
    heldout: HeldOut, data: PreparedData, vocabulary: Vocabulary
) -> None:
    """A prefix is a sample of the whole; each row is visited once."""
    stored = data.heldout.rows(np.arange(len(data.heldout)))
    assert heldout._ids.tolist() != stored.tolist()
    assert sorted(heldout._ids.tolist()) == sorted(stored.tolist())


class TwoSources:
    """A store of two sources of unequal size."""

    sources = ["news", "books"]

    def __init__(self, data: PreparedData) -> None:
        self._store = data.heldout

    def __len__(self) -> int:
        return len(self._store)

    def rows(self, indices: np.ndarray) -> np.ndarray:
        return self._store.rows(indices)

    def source_of(self, indices: np.ndarray) -> np.ndarray:
        return (indices >= 11).astype(np.int64)


def test_the_losses_of_the_sources_weighted_by_their_tokens_give_the_total(
    data: PreparedData, vocabulary: Vocabulary, learner: Learner
) -> None:
    """Against a count of each source's masked tokens by hand."""
    held = HeldOut(TwoSources(data), vocabulary)  # type: ignore[arg-type]
    answer = ask(held, learner.model, microbatch=5)
    tokens = {name: int(held._masked[held._source == i].sum()) for i, name in enumerate(TwoSources.sources)}
    assert sum(tokens.values()) == answer.masked and min(tokens.values()) > 0
    mean = sum(answer.by_source[name] * count for name, count in tokens.items()) / answer.masked
    assert answer.nats_per_token == pytest.approx(mean, rel=1e-9)
    assert answer.by_source["news"] != answer.by_source["books"]


def test_a_source_without_a_row_in_the_look_is_left_out(data: PreparedData, vocabulary: Vocabulary) -> None:
    """No mean of nothing: a look at one row names one source."""
    answer = ask(HeldOut(TwoSources(data), vocabulary), Watching(vocabulary.size), rows=1)  # type: ignore[arg-type]
    assert len(answer.by_source) == 1


@pytest.mark.parametrize("training", [True, False])
def test_the_models_mode_is_put_back(heldout: HeldOut, learner: Learner, training: bool) -> None:
    """Dropout is off during a look and as before after it; no gradient is kept."""
    learner.model.train(training)
    ask(heldout, learner.model, rows=4)
    assert learner.model.training is training
    assert all(p.grad is None for p in learner.parameters())


@pytest.mark.parametrize("fault", [torch.OutOfMemoryError("out of memory"), MemoryError()], ids=["device", "host"])
def test_memory_that_runs_out_is_told_as_such(heldout: HeldOut, learner: Learner, fault: BaseException) -> None:
    """And the model trains on: its mode is put back."""

    def full(*_: object) -> None:
        raise fault

    learner.model.train()
    learner.model.predict = full
    with pytest.raises(TooLarge):
        ask(heldout, learner.model, rows=4)
    assert learner.model.training


def test_every_whole_micro_batch_has_the_same_shapes(heldout: HeldOut, vocabulary: Vocabulary) -> None:
    """On a CPU a new shape costs more than the product: ids and positions keep theirs, whatever is masked."""
    watching = Watching(vocabulary.size)
    ask(heldout, watching, rows=8, microbatch=2)
    assert len(watching.asked) == 4
    assert len({(tuple(ids.shape), tuple(positions.shape)) for ids, positions in watching.asked}) == 1


def test_the_answer_does_not_depend_on_how_many_logits_exist_at_a_time(
    heldout: HeldOut, learner: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of seven positions against all at once, within rounding; no chunk is larger."""
    whole = ask(heldout, learner.model)
    monkeypatch.setattr(validate, "CHUNK", 7)
    seen: list[int] = []
    predict = learner.model.predict
    monkeypatch.setattr(learner.model, "predict", lambda hidden, p: seen.append(len(p)) or predict(hidden, p))
    pieces = ask(heldout, learner.model)
    assert max(seen) == 7
    assert pieces.masked == whole.masked
    assert pieces.nats_per_token == pytest.approx(whole.nats_per_token, rel=1e-6)


class OneOf(Ranks):
    """A rank whose sums are what another such rank has left for it."""

    def __init__(self, rank: int, size: int, others: Sequence[float]) -> None:
        super().__init__(rank, size)
        self.others, self.mine = others, list[float]()

    def total(self, values: Sequence[float]) -> list[float]:
        self.mine = list(values)
        return [a + b for a, b in zip(values, self.others, strict=True)] if self.others else self.mine


def test_ranks_share_the_rows_of_a_look(heldout: HeldOut, learner: Learner) -> None:
    """Each row once, by one of two; the sums of both give the answer of one, and the pace counts all rows."""
    alone = ask(heldout, learner.model, rows=13, microbatch=4)
    first = OneOf(0, 2, ())
    heldout.ask(learner.model, rows=13, microbatch=4, device=CPU, ranks=first)
    both = heldout.ask(learner.model, rows=13, microbatch=4, device=CPU, ranks=OneOf(1, 2, first.mine))
    assert both.masked == alone.masked
    assert both.nats_per_token == pytest.approx(alone.nats_per_token, rel=1e-12)
    assert both.by_source == {"synthetic": pytest.approx(alone.by_source["synthetic"], rel=1e-12)}


def test_a_shifted_model_is_not_asked_for_the_first_position(heldout: HeldOut, learner: Learner) -> None:
    """It sees the same rows; its answer is the mean over all other masked positions, from the states before them."""
    learner.model.shifted = True
    answer = ask(heldout, learner.model, rows=9)
    masked = heldout._masked[:9]
    ids = torch.from_numpy(np.where(masked, heldout._mask_id, heldout._ids[:9]))
    with torch.no_grad():
        logits = learner.model.head(learner.model.encoder(ids), learner.model.encoder.embedding.weight)
    chances = logits[:, :-1].log_softmax(-1).gather(2, torch.from_numpy(heldout._ids[:9, 1:, None]))[..., 0]
    assert answer.masked == masked[:, 1:].sum() < masked.sum()
    assert answer.nats_per_token == pytest.approx(-chances[torch.from_numpy(masked[:, 1:])].mean().item(), rel=1e-5)
