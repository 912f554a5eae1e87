from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
import transformers
from torch.optim.optimizer import register_optimizer_step_pre_hook

from gpuday.core.errors import DataError
from gpuday.evaluate import finetune as module
from gpuday.evaluate.encoding import encode_task
from gpuday.evaluate.finetune import Finetuned, finetune, make_optimizer, rate_multiplier
from gpuday.evaluate.protocols import P1, P2
from gpuday.evaluate.subject import Subject, subject_of_run
from gpuday.evaluate.tasks import TaskData
from gpuday.evaluate.tasks.task import Kind, Task
from gpuday.train.trained import Trained
from toy_tasks import classification, span, toy

QUICK = replace(P1, name="quick", epochs=2)
EAGER = replace(P1, name="eager", lr=3e-3)  # P1's rate is for trained encoders; a random one learns little from it
KINDS: tuple[Kind, ...] = get_args(Kind)


def facts(tuned: Finetuned) -> tuple[object, ...]:
    """All that must repeat to the bit."""
    outcome = tuned.outcome
    answers = {n: p if isinstance(p, tuple) else p.tolist() for n, p in tuned.predicted.items()}
    weights = {name: p.tolist() for name, p in tuned.model.named_parameters() if "output" in name}
    return outcome.train_loss, outcome.metrics, outcome.steps, answers, weights


@pytest.mark.parametrize(("step", "expected"), [(0, 0.0), (5, 0.5), (10, 1.0), (55, 0.5), (100, 0.0)])
def test_rate_at_hand_picked_points(step: int, expected: float) -> None:
    """Of 100 steps the first ten rise in a line; half way through the rest both cosine and line are half way down."""
    assert rate_multiplier(step, 100, 0.1) == pytest.approx(expected, abs=1e-12)
    assert rate_multiplier(step, 100, 0.1, "linear") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("steps", [1, 7, 93])
@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_rate_agrees_with_transformers(steps: int, schedule: str) -> None:
    """The schedules are `get_cosine_schedule_with_warmup`, which the paper's code uses, and its linear sister, at every step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = getattr(transformers, f"get_{schedule}_schedule_with_warmup")(optimizer, int(0.1 * steps), steps)
    for step in range(steps):
        assert rate_multiplier(step, steps, 0.1, schedule) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


def test_two_fine_tunings_of_one_seed_are_equal(subject: Subject, toy_data: TaskData) -> None:
    """Loss and metrics repeat to the bit, and another seed gives another loss."""
    first, second = (finetune(subject, toy_data, QUICK, 3) for _ in range(2))
    assert facts(first) == facts(second)
    assert finetune(subject, toy_data, QUICK, 4).outcome.train_loss != first.outcome.train_loss


def test_a_pooling_is_the_subject_s_unless_it_is_asked_for(subject: Subject, toy_data: TaskData) -> None:
    """A run's own is position 0, to the bit; the mean gives another model, whoever says so."""
    short, other = replace(QUICK, epochs=1), replace(subject, pooling="mean")
    own, mean = (facts(finetune(each, toy_data, short)) for each in (subject, other))
    assert own != mean
    assert facts(finetune(other, toy_data, replace(short, pooling="first"))) == own
    assert facts(finetune(subject, toy_data, replace(short, pooling="mean"))) == mean


def test_eight_tasks_in_a_row_get_what_each_gets_alone(subject: Subject) -> None:
    """Losses, answers and weights are those of a fine-tuning that ran first, whatever ran before it: to the bit, in either
    order, for every kind of task and two seeds."""
    eight = [(toy(kind), 0) for kind in KINDS] + [(toy(kind), 1) for kind in KINDS[2:]]
    quick = replace(EAGER, epochs=1)
    torch.manual_seed(1)
    forward = [facts(finetune(subject, data, quick, seed)) for data, seed in eight]
    torch.manual_seed(2)
    backward = [facts(finetune(subject, data, quick, seed)) for data, seed in reversed(eight)]
    assert forward == backward[::-1]


def test_the_rate_of_a_step_is_a_function_of_its_number_alone(subject: Subject) -> None:
    """One task's warm-up never leaks into the next: each begins at 0, rises, and ends where the schedule ends."""
    rates = list[float]()
    handle = register_optimizer_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    protocol = replace(P1, epochs=5)
    try:
        for kind in ("classification", "tagging"):
            finetune(subject, toy(kind), protocol)
    finally:
        handle.remove()
    expected = [protocol.lr * rate_multiplier(k, 15, 0.1) for k in range(15)]
    assert rates == expected * 2
    assert (rates[0], max(rates)) == (0.0, protocol.lr)


def test_the_subject_and_the_random_state_are_left_alone(trained: Trained, toy_data: TaskData) -> None:
    """Fine-tuning works on a copy and puts torch's generator back."""
    before = {name: p.clone() for name, p in trained.model.named_parameters()}
    state = torch.get_rng_state()
    finetune(subject_of_run(trained), toy_data, QUICK, 0)
    assert all(torch.equal(p, before[name]) for name, p in trained.model.named_parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert trained.model.encoder.dtype == torch.float32
    assert trained.model.encoder.config.dropout == 0.0


def test_a_separable_task_is_learnt(subject: Subject, toy_data: TaskData) -> None:
    """A tiny random encoder finds out which of two words is in the text."""
    outcome = finetune(subject, toy_data, EAGER, 0).outcome
    assert toy_data.dev.labels is not None
    majority = max(np.bincount(toy_data.dev.labels)) / len(toy_data.dev)
    assert outcome.metrics["accuracy"] > max(0.85, majority + 0.2)
    assert outcome.steps == 5 * (200 // 16)


def test_regression_on_pairs_is_learnt(subject: Subject, other_data: TaskData) -> None:
    """The mean squared error falls below the variance of the labels, and the correlation is positive."""
    outcome = finetune(subject, other_data, replace(EAGER, epochs=25), 0).outcome
    assert other_data.train.labels is not None
    assert outcome.train_loss < np.var(other_data.train.labels)
    assert outcome.metrics["pearson"] > 0.3


@pytest.mark.parametrize(("kind", "metric", "chance"), [("choice", "accuracy", 1 / 3), ("span", "exact_match", 0.2)])
def test_candidates_and_answers_are_learnt(subject: Subject, kind: Kind, metric: str, chance: float) -> None:
    """The candidate with the animal, and the animal's place in the text, are found far more often than by guessing."""
    outcome = finetune(subject, toy(kind, train=96), replace(EAGER, epochs=7), 0).outcome
    assert outcome.metrics[metric] > chance + 0.4


def test_tags_are_learnt_and_words_that_the_length_cuts_off_are_counted(subject: Subject) -> None:
    """Every word is tagged; those beyond the length are no entity, whatever class 0 is, and stand in the outcome."""
    data = toy("tagging", train=128)
    tuned = finetune(subject, data, replace(EAGER, epochs=4), 0)
    assert tuned.outcome.metrics["accuracy"] > 0.97
    assert tuned.outcome.unread_words == 0
    short = finetune(subject, data, replace(QUICK, max_tokens=8), 0)
    words = data.dev.words or ()
    assert short.outcome.unread_words > 0
    assert len(short.predicted["tags"]) == sum(map(len, words))
    turned = replace(data, task=replace(data.task, classes=("B-ANIMAL", "O")))
    parts = {part: replace(rows, labels=1 - rows.labels) for part, rows in (("train", data.train), ("dev", data.dev))}
    cut = encode_task(subject, turned, replace(QUICK, max_tokens=8)).asked["tags"].words
    assert cut is not None
    tags = finetune(subject, replace(turned, **parts), replace(QUICK, max_tokens=8), 0).predicted["tags"]
    assert set(np.asarray(tags)[cut < 0].tolist()) == {1}


def test_no_answer_is_given_where_rows_have_none(subject: Subject) -> None:
    """With unanswerable train rows, contexts without the animal get the empty answer."""
    data = replace(toy("span"), train=span(96, 0, absent=True), dev=span(30, 1, absent=True))
    tuned = finetune(subject, data, replace(EAGER, epochs=10), 0)
    answers = tuned.predicted["answers"]
    assert sum(answer == "" for answer in answers[::3]) >= 8
    assert tuned.outcome.metrics["exact_match"] > 0.7


def test_companions_and_unlabelled_rows_are_answered_by_the_same_model(subject: Subject) -> None:
    """Each companion is measured by its own metrics, and rows of a test set are answered though they have no labels."""
    data, companion = toy("classification"), Task(name="more", suite="toy", classes=("a", "b"), metrics=("matthews",))
    unlabelled = replace(classification(7, 3), labels=None)
    data = replace(
        data,
        task=replace(data.task, companions=(companion,)),
        companions={"more": data.dev},
        test={"words": unlabelled},
    )
    tuned = finetune(subject, data, QUICK, 0)
    assert list(tuned.predicted) == ["words", "more", "test:words"]
    assert np.array_equal(tuned.predicted["more"], tuned.predicted["words"])
    assert len(tuned.predicted["test:words"]) == 7
    assert list(tuned.outcome.companions["more"]) == ["matthews"]


def test_dropout_acts_while_training_and_not_while_scoring(subject: Subject, toy_data: TaskData) -> None:
    """Another probability gives another loss; the model that scores gives a row the same answer each time."""
    high, low = (finetune(subject, toy_data, replace(QUICK, dropout=p), 0) for p in (0.5, 0.0))
    assert high.outcome.train_loss != low.outcome.train_loss
    asked = encode_task(subject, toy_data, QUICK).asked["toy"]
    assert not high.model.training
    batch = asked.encoded.batch(torch.arange(8), 32)
    with torch.inference_mode():
        assert torch.equal(high.model(*batch), high.model(*batch))
        high.model.train()
        assert not torch.equal(high.model(*batch), high.model(*batch))


def test_a_seed_changes_head_and_order(subject: Subject, toy_data: TaskData) -> None:
    """Without a step worth the name, heads of two seeds differ and encoders do not; the batches differ as well."""
    still = replace(QUICK, epochs=1, lr=0.0, dropout=0.0)
    weights = [dict(finetune(subject, toy_data, still, seed).model.named_parameters()) for seed in (0, 1)]
    same = {name: torch.equal(p, weights[1][name]) for name, p in weights[0].items() if name.endswith("weight")}
    assert {name.split(".")[0] for name, equal in same.items() if not equal} == {"dense", "output"}
    lengths = np.arange(64)
    orders = [module.train_batches(lengths, 16, seed, "finetune/toy/order", 0) for seed in (0, 1)]
    assert not np.array_equal(*orders)


def test_a_start_replaces_the_subjects_weights(subject: Subject, toy_data: TaskData) -> None:
    """The body begins as the given state, such as that of another task's fine-tuned encoder."""
    parent = finetune(subject, toy_data, EAGER, 0).model.body
    still = replace(QUICK, epochs=1, lr=0.0)
    child = finetune(subject, toy("tagging"), still, 0, start=parent.state_dict()).model.body
    for name, weight in parent.named_parameters():
        assert torch.equal(weight, child.get_parameter(name))


def test_decay_by_share_is_that_of_composer() -> None:
    """A weight without gradient loses decay times the rate's share of its peak; by AdamW, decay times the rate itself."""
    protocol = replace(P2, sweep=None, lr=1e-2, weight_decay=1e-3)
    for by_share, expected in ((True, 1 - 1e-3 * 0.5), (False, 1 - 1e-3 * 0.5 * 1e-2)):
        weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
        optimizer = make_optimizer([weight], replace(protocol, decay_by_share=by_share))
        optimizer.param_groups[0]["lr"] = 0.5 * protocol.lr
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
        assert weight.item() == pytest.approx(expected, abs=1e-12)


def test_a_sweep_is_no_setting(subject: Subject, toy_data: TaskData) -> None:
    """Its settings are what can be fine-tuned by."""
    with pytest.raises(ValueError, match="P2 is a sweep"):
        finetune(subject, toy_data, P2)


def test_a_loss_that_is_not_finite_is_an_error(trained: Trained, toy_data: TaskData) -> None:
    """Diverged weights give a sentence, not a score."""
    with torch.no_grad():
        trained.model.encoder.embedding.weight.fill_(float("nan"))
    with pytest.raises(DataError, match="not finite"):
        finetune(subject_of_run(trained), toy_data, QUICK, 0)


def test_epochs_are_told_with_the_seconds_that_are_left(subject: Subject, toy_data: TaskData) -> None:
    """The listener hears of every epoch with its mean loss; nothing is left after the last."""
    heard = []
    finetune(subject, toy_data, QUICK, 0, progress=lambda event, /, **values: heard.append((event, values)))
    assert [(event, values["epoch"], values["epochs"]) for event, values in heard] == [("epoch", 1, 2), ("epoch", 2, 2)]
    assert heard[0][1]["seconds_left"] > 0.0
    assert heard[1][1]["seconds_left"] == 0.0


def test_a_long_epoch_tells_how_far_it_is(
    subject: Subject, toy_data: TaskData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events inside an epoch come with the share that is done and the seconds that are left, which fall to none."""
    monkeypatch.setattr(module, "EVENT_SECONDS", 0.0)
    heard = []
    finetune(
        subject,
        toy_data,
        replace(QUICK, epochs=1),
        progress=lambda event, /, **values: heard.append(values) if event == "finetune" else None,
    )
    assert [values["done"] for values in heard] == [pytest.approx(k / 12) for k in range(1, 13)]
    assert heard[-1]["seconds_left"] == 0.0
