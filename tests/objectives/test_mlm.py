"""Masked language modelling: which positions are chosen, what stands there."""

import numpy as np
import pytest
from scipy import stats

from gpuday import presets
from gpuday.core import config
from gpuday.core.clock import Budget
from gpuday.core.errors import UsageError
from gpuday.objectives import Vocabulary
from gpuday.objectives.mlm import Mlm

# So many ids that a random one is never, at the seeds used here, the mask or the token itself: roles can be told apart.
ENDLESS = Vocabulary(size=1 << 40, mask_id=6, special_ids=tuple(range(7)))
KEYS = np.arange(1000, dtype=np.uint64)


def draw(objective, rows, keys=None, *, seed=1, epoch=0, multiplier=1.0, vocabulary=ENDLESS):
    keys = KEYS[: len(rows)] if keys is None else keys
    return objective.inputs(
        rows, keys, seed=seed, epoch=epoch, multiplier=multiplier, kind="masked", vocabulary=vocabulary
    )


def tokens(count, length, seed=0):
    """Rows of ordinary ids, none of them special."""
    return np.random.default_rng(seed).integers(7, 1000, (count, length))


def roles(rows, made):
    """[R, L] of 0 untouched, 1 masked, 2 random, 3 kept, worked out from what the arrays hold."""
    role = np.zeros(rows.size, np.int64)
    shown, positions = made["ids"].reshape(-1), made["positions"]
    role[positions] = 2
    role[positions[shown[positions] == 6]] = 1
    role[positions[shown[positions] == rows.reshape(-1)[positions]]] = 3
    return role.reshape(rows.shape)


def assert_uniform(counts, trials, chosen):
    """Chi-square of how often each of len(counts) places was among `chosen` of them in `trials` draws, at p = 1e-4."""
    places = len(counts)
    expected = trials * chosen / places
    variance = expected * (1 - chosen / places) * places / (places - 1)  # drawn without replacement
    assert ((counts - expected) ** 2).sum() / variance < stats.chi2.ppf(1 - 1e-4, places - 1)


@pytest.mark.parametrize(
    ("length", "rate", "multiplier", "expected"),
    [(128, 0.25, 1.0, 32), (128, 0.15, 1.0, 19), (128, 0.4, 0.5, 26), (128, 0.3, 0.0, 1), (16, 1.0, 1.0, 16)],
)
def test_the_number_of_predictions_follows_the_rate(length, rate, multiplier, expected):
    """Rounded to whole positions, at least one and at most all."""
    assert Mlm(rate=rate).predicted(length, multiplier, "masked") == expected
    assert Mlm(rate=rate).predicted(length, 100.0, "masked") == length


@pytest.mark.parametrize(("rate", "multiplier", "count"), [(0.25, 1.0, 32), (0.25, 0.5, 16), (0.01, 1.0, 1)])
def test_every_row_has_exactly_the_same_number_of_predictions(rate, multiplier, count):
    """No row has one more or less, also when the rate is on a schedule."""
    made = draw(Mlm(rate=rate), tokens(300, 128), multiplier=multiplier)
    assert np.bincount(made["positions"] // 128, minlength=300).tolist() == [count] * 300


@pytest.mark.parametrize(("rate", "expected"), [(0.25, [96, 26, 3, 3]), (0.15, [109, 15, 2, 2])])
def test_eighty_ten_ten_is_exact_in_every_row(rate, expected):
    """The crammed numbers: of 32 predicted positions 26 are masked, 3 random and 3 kept; and BERT's of 19."""
    rows = tokens(300, 128)
    role = roles(rows, draw(Mlm(rate=rate, masked=0.8, random=0.1), rows))
    assert [np.unique((role == r).sum(1)).tolist() for r in (0, 1, 2, 3)] == [[n] for n in expected]


@pytest.mark.parametrize(
    ("masked", "random", "expected"),
    [(1.0, 0.0, [0, 32, 0, 0]), (0.0, 1.0, [0, 0, 32, 0]), (0.0, 0.0, [0, 0, 0, 32]), (0.5, 0.25, [0, 16, 8, 8])],
)
def test_the_shares_are_what_they_say(masked, random, expected):
    """All masked, all random, all kept, and a mixture."""
    rows = tokens(50, 128)
    role = roles(rows, draw(Mlm(rate=0.25, masked=masked, random=random), rows))
    assert [np.unique((role == r).sum(1)).tolist() for r in (1, 2, 3)] == [[n] for n in expected[1:]]


def test_labels_are_the_tokens_that_stood_there_and_nothing_else_changes():
    """Labels in the order of the positions; unpredicted ids, and the caller's rows, stay as they are."""
    rows = tokens(40, 32)
    before = rows.copy()
    made = draw(Mlm(rate=0.5, masked=0.8, random=0.1), rows)
    assert np.array_equal(rows, before)
    assert np.array_equal(made["labels"], rows.reshape(-1)[made["positions"]])
    untouched = np.setdiff1d(np.arange(rows.size), made["positions"])
    assert np.array_equal(made["ids"].reshape(-1)[untouched], rows.reshape(-1)[untouched])


@pytest.mark.parametrize("rate", [0.25, 1.0])
def test_positions_ascend_without_duplicates(rate):
    """Through the flattened batch, so that gathering them reads memory in order."""
    positions = draw(Mlm(rate=rate), tokens(40, 32))["positions"]
    assert (np.diff(positions) > 0).all()
    assert (positions[0] >= 0, positions[-1] < 40 * 32) == (True, True)


def test_types_are_what_the_learner_takes():
    """int64 ids, positions and labels; one fp32 weight of 1 for each prediction."""
    made = draw(Mlm(rate=0.25), tokens(10, 32))
    assert {name: str(array.dtype) for name, array in made.items()} == {
        "ids": "int64",
        "positions": "int64",
        "labels": "int64",
        "weights": "float32",
    }
    assert made["weights"].tolist() == [1.0] * 80


def test_a_rows_masks_do_not_depend_on_its_neighbours():
    """The same row with the same key looks the same alone, in any batch and at any place in it."""
    rows, objective = tokens(20, 32), Mlm(rate=0.25, masked=0.5, random=0.3)
    whole = draw(objective, rows)
    order = np.random.default_rng(1).permutation(20)[:7]
    assert np.array_equal(draw(objective, rows[order], KEYS[order])["ids"], whole["ids"][order])
    assert all(
        np.array_equal(draw(objective, rows[i : i + 1], KEYS[i : i + 1])["ids"][0], whole["ids"][i]) for i in order
    )


@pytest.mark.parametrize("change", [{"epoch": 1}, {"seed": 2}, {"keys": KEYS[1000 - 500 :]}])
def test_epoch_seed_and_key_each_give_unrelated_masks(change):
    """Two draws of 16 among 64 share 4 positions on average, as chance has it: neither the same nor avoiding each other."""
    rows, objective = tokens(500, 64), Mlm(rate=0.25)
    role, other = (roles(rows, draw(objective, rows, **changes)) > 0 for changes in ({}, change))
    shared = (role & other).sum(1)
    deviation = stats.hypergeom(64, 16, 16).std() / 500**0.5
    assert abs(shared.mean() - 4.0) < 4 * deviation


def test_every_position_is_chosen_equally_often_in_every_role():
    """Masked, random and kept alike, over 40,000 rows: no place is favoured, also not by ties between draws."""
    rows, objective = tokens(1000, 64), Mlm(rate=0.375, masked=0.5, random=0.25)
    counts = np.zeros((4, 64))
    for epoch in range(40):
        role = roles(rows, draw(objective, rows, epoch=epoch))
        counts += np.stack([(role == wanted).sum(0) for wanted in range(4)])
    for wanted, chosen in ((1, 12), (2, 6), (3, 6)):
        assert_uniform(counts[wanted], 40_000, chosen)


def test_every_pair_of_positions_is_chosen_equally_often():
    """Neighbours are no more and no less often chosen together than any two positions."""
    rows = tokens(1000, 16)
    chosen = np.concatenate([roles(rows, draw(Mlm(rate=0.25), rows, epoch=e)) > 0 for e in range(4)]).astype(np.int64)
    together = (chosen.T @ chosen)[np.triu_indices(16, 1)]
    expected = 4000 * (4 * 3) / (16 * 15)
    assert np.abs(together - expected).max() < 4.5 * expected**0.5


def test_random_replacements_come_from_the_whole_vocabulary(vocabulary):
    """Every id, specials and the mask included, equally often."""
    rows = np.full((1000, 64), 50)
    made = draw(Mlm(rate=0.25, masked=0.0, random=1.0), rows, vocabulary=vocabulary)
    replaced = made["ids"].reshape(-1)[made["positions"]]
    counts = np.bincount(replaced, minlength=100)
    assert len(counts) == 100
    assert stats.chisquare(counts).pvalue > 1e-4


def test_specials_are_never_predicted_while_enough_others_exist(vocabulary, rows):
    """By default they may be; with `predict_specials=False` never, and the count stays exact."""
    everything = Mlm(rate=0.5)
    chosen = np.concatenate([draw(everything, rows, epoch=e, vocabulary=vocabulary)["labels"] for e in range(5)])
    assert (chosen == 3).any()
    for epoch in range(5):
        made = draw(Mlm(rate=0.5, predict_specials=False), rows, epoch=epoch, vocabulary=vocabulary)
        assert not np.isin(made["labels"], vocabulary.special_ids).any()
        assert np.bincount(made["positions"] // 16).tolist() == [8] * 32


def test_ordinary_positions_stay_equally_likely_beside_specials():
    """Leaving out specials at two places favours none of the others."""
    rows = tokens(1000, 34)
    rows[:, [0, 20]] = 2
    objective = Mlm(rate=0.25, predict_specials=False)
    role = np.concatenate([roles(rows, draw(objective, rows, epoch=epoch)) > 0 for epoch in range(4)])
    counts = role.sum(0)
    assert counts[[0, 20]].tolist() == [0, 0]
    assert_uniform(np.delete(counts, [0, 20]), 4000, objective.predicted(34, 1.0, "masked"))


def test_specials_fill_up_a_row_that_has_too_few_others(vocabulary):
    """All four ordinary tokens, then as many specials as the exact count needs."""
    rows = np.full((20, 16), 2)
    rows[:, [1, 4, 9, 15]] = [10, 20, 30, 40]
    labels = draw(Mlm(rate=0.5, predict_specials=False), rows, vocabulary=vocabulary)["labels"].reshape(20, 8)
    assert np.sort(labels, axis=1).tolist() == [[2, 2, 2, 2, 10, 20, 30, 40]] * 20


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.01])
def test_a_rate_that_is_no_share_is_refused(rate):
    """With the key to change, wherever the objective stands in a recipe."""
    with pytest.raises(UsageError, match="rate is") as caught:
        Mlm(rate=rate)
    assert caught.value.where == "rate"
    for name, key in (("bert", "objective.rate"), ("modern", "objective.mlm.rate")):
        with pytest.raises(UsageError, match="rate is") as caught:
            config.replace_at(presets.find(name)("nano", Budget.parse("10m")), key, rate)
        assert caught.value.where == key


@pytest.mark.parametrize(("masked", "random"), [(0.9, 0.2), (-0.1, 0.5), (0.5, -0.1)])
def test_shares_that_are_no_parts_of_a_whole_are_refused(masked, random):
    """Negative, or more than 1 together; 0.9 + 0.1, which is not 1 in floating point, is fine."""
    with pytest.raises(UsageError, match="no shares of a whole"):
        Mlm(masked=masked, random=random)
    assert Mlm(masked=0.9, random=0.1).masked == 0.9


def test_tokens_left_out_shorten_every_row_by_the_same_number():
    """Half of those that are not predicted; what stays keeps its order, and predictions find their places."""
    rows, whole, dropping = tokens(200, 32), Mlm(rate=0.25), Mlm(rate=0.25, token_drop=0.5)
    plain, made = draw(whole, rows), draw(dropping, rows)
    assert made["ids"].shape == (200, 32 - 12) == (200, dropping.shown(32, 8))
    assert np.array_equal(made["ids"], np.take_along_axis(plain["ids"], made["columns"], 1))
    assert (np.diff(made["columns"], axis=1) > 0).all()
    assert np.array_equal(made["labels"], plain["labels"])
    columns = made["columns"].reshape(-1)[made["positions"]]
    assert np.array_equal(columns, plain["positions"] % 32)
    assert np.array_equal(made["positions"] // 20, plain["positions"] // 32)


def test_without_left_out_tokens_nothing_is_said_of_columns():
    """The arrays are those that there were before the axis."""
    assert set(draw(Mlm(), tokens(2, 32))) == {"ids", "positions", "labels", "weights"}


@pytest.mark.parametrize("unit", ["word", "span"])
def test_words_and_spans_keep_the_exact_shares(unit):
    """As many predictions and roles in every row as single tokens have: no rounding word by word."""
    vocabulary = Vocabulary(size=1 << 24, mask_id=6, special_ids=tuple(range(7)), continues=tuple(range(500, 1000)))
    rows = tokens(300, 127)
    role = roles(rows, draw(Mlm(rate=0.25, masked=0.8, random=0.1, unit=unit), rows, vocabulary=vocabulary))
    assert [np.unique((role == r).sum(1)).tolist() for r in (1, 2, 3)] == [[26], [3], [3]]


def test_a_share_that_leaves_nothing_is_refused():
    """With the axis' name."""
    with pytest.raises(UsageError, match="token_drop is 1"):
        Mlm(token_drop=1.0)
