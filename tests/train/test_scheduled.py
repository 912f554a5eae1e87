"""What is scheduled at a step, and the few values that it moves through."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuday.objectives.hybrid import Hybrid
from gpuday.recipe import Recipe
from gpuday.schedules.constant import Constant
from gpuday.schedules.ramp import Ramp
from gpuday.train.noise import Estimate
from gpuday.train.scheduled import UNKNOWN, Graph, Levels, Moment, Scheduled, kinds_over, nearest_length

MakeRecipe = Callable[..., Recipe]
FALLING = {"part": "ramp", "start": 1.0, "end": 0.0}
RISING = {"part": "ramp", "start": 0.25, "end": 0.75}  # no length falls to nothing
MLM = {"part": "mlm", "rate": 0.4}  # masks alone, of as many tokens as the preset's


def test_a_moment_is_what_each_schedule_says(make_recipe: MakeRecipe) -> None:
    """By hand in the middle of a budget: each schedule is asked once, none for another's value."""
    recipe = make_recipe(
        rate={"part": "ramp", "start": 0.2, "end": 0.6},
        decay={"part": "ramp", "start": 2.0, "end": 1.0},
        mask_rate={"part": "constant", "value": 0.5},
        length=RISING,
        model__dropout=0.1,
        train__dropout=True,
        dropout=FALLING,
        batch__ramp={"part": "constant", "value": 0.5},
        batch__least_tokens=32,
    )
    moment = Scheduled(recipe, full_rows=8)(0.5, 0, UNKNOWN)
    assert moment == Moment(
        rows=4, rate=pytest.approx(0.4), decay=1.5, multiplier=0.5, kind="masked", predicted=3, length=16, dropout=0.5
    )
    assert moment.graph == Graph(predicted=3, kind="masked", length=16, dropout=0.5)


def test_without_schedules_of_their_own_decay_dropout_and_length_are_whole(tiny: Recipe) -> None:
    """As in every recipe that was written before they had any."""
    scheduled = Scheduled(tiny, full_rows=8)
    moments = [scheduled(i / 10, i, UNKNOWN) for i in range(11)]
    assert {(m.decay, m.dropout, m.length) for m in moments} == {(1.0, 1.0, 32)}


def test_a_graph_is_compiled_once_and_once_more_when_shapes_change(tiny: Recipe) -> None:
    """Known after a step was made with it, another one still not, and none once the shapes are others."""
    scheduled = Scheduled(tiny, full_rows=8)
    first, last = scheduled(0.0, 0, UNKNOWN), scheduled(1.0, 0, UNKNOWN)
    assert first.graph != last.graph
    assert scheduled.compiles(first)
    scheduled.made(first)
    assert (scheduled.compiles(first), scheduled.compiles(last)) == (False, True)
    scheduled.forget()
    assert scheduled.compiles(first)


def test_the_graphs_of_a_run_are_those_that_its_moments_have(make_recipe: MakeRecipe) -> None:
    """Two mask levels fall while three dropout levels do and two lengths rise: six at the most, and no other occurs."""
    moving = {"length": RISING, "model__dropout": 0.1, "train__dropout": True, "dropout": FALLING}
    scheduled = Scheduled(make_recipe(objective=MLM, train__mask_levels=2, **moving), full_rows=8)
    graphs = scheduled.graphs()
    assert {g.length for g in graphs} == {16, 32} and {g.dropout for g in graphs} == {0.0, 0.5, 1.0}
    assert len(graphs) <= 6
    assert {scheduled(i / 1000, 0, UNKNOWN).graph for i in range(1001)} == graphs
    assert scheduled.most_graphs == 2 * 3 * 2


def test_each_kind_of_step_has_its_graphs_and_only_where_it_occurs(make_recipe: MakeRecipe) -> None:
    """A causal half, in which the mask rate passes through two of its three levels, and then masks at two of them: the
    positions of a causal step are all but one whatever the rate. One step in sixteen causal: beside each of the three."""
    objective = {"part": "hybrid", "mlm": {"rate": 0.5}, "first": 0.5, "causal": 0.0, "shift": False}
    recipe = make_recipe(objective=objective, train__mask_levels=3)
    scheduled = Scheduled(recipe, full_rows=8)
    causal, masked = Graph(31, "causal", 32, 1.0), Graph(16, "masked", 32, 1.0)
    assert scheduled.graphs() == {causal, masked._replace(predicted=12), masked._replace(predicted=8)}
    assert {scheduled(i / 1000, 8 * i, UNKNOWN).graph for i in range(1001)} == scheduled.graphs()
    mixed = Scheduled(
        make_recipe(objective={**objective, "first": 0.0, "causal": 0.0625}, train__mask_levels=3), full_rows=8
    )
    assert mixed.graphs() == {causal, masked, *scheduled.graphs()}
    assert mixed.most_graphs == scheduled.most_graphs == 4


def test_the_kinds_of_a_budget_are_counted_where_they_occur(tiny: Recipe) -> None:
    """Of a hundred steps in each hundredth: all of one kind and then of the other; or six or seven, and 6.25 in the mean."""
    assert kinds_over(tiny.objective) == [{"causal": 100}] * 25 + [{"masked": 100}] * 75
    spread = [kinds["causal"] for kinds in kinds_over(Hybrid())]
    assert set(spread) == {6, 7} and sum(spread) == 625


def test_a_stage_between_two_hundredths_of_the_budget_is_seen(make_recipe: MakeRecipe) -> None:
    """From 50.2% to 50.8%: its dropout is a level, so is its mask rate, and its graph is among those that are allowed for."""
    stage = {"part": "stages", "stages": [[0.502, 1.0], [0.508, 0.5], [1.0, 1.0]]}
    recipe = make_recipe(
        objective=MLM,
        length=stage,
        mask_rate=stage,
        model__dropout=0.1,
        train__dropout=True,
        dropout=stage,
        train__mask_levels=2,
    )
    scheduled = Scheduled(recipe, full_rows=8)
    inside, outside = (scheduled(fraction, 0, UNKNOWN).graph for fraction in (0.505, 0.5))
    assert (inside, outside) == (Graph(3, "masked", 16, 0.5), Graph(13, "masked", 32, 1.0))
    assert len(scheduled.graphs()) == 1 and scheduled.most_graphs >= 2


def test_a_step_that_was_made_has_the_rows_that_it_had(make_recipe: MakeRecipe) -> None:
    """Whatever the noise or the ramp would say now."""
    scheduled = Scheduled(make_recipe(batch__noise=1.0, batch__least_tokens=64), full_rows=16)
    assert [scheduled(0.5, 0, Estimate(1.0, 4.0), rows=rows).rows for rows in (0, 2, 10)] == [4, 2, 10]


@pytest.mark.parametrize(
    ("full", "wanted"), [(128, [128, 64, 32, 16]), (96, [96, 48, 24]), (33, [33]), (16, [16]), (34, [34, 17])]
)
def test_rows_are_cut_into_halves_of_halves_down_to_sixteen_tokens(
    make_recipe: MakeRecipe, full: int, wanted: list[int]
) -> None:
    """By hand; nothing is left over, so that every token is read."""
    assert make_recipe(data__length=full).lengths() == wanted


def test_a_curriculum_of_lengths_reaches_each_of_them(make_recipe: MakeRecipe) -> None:
    """8, 16, 32, 64 and 128 of 128 tokens by fifths of the budget, but for 8, which is less than the least."""
    stages = [[(i + 1) / 5, 2.0 ** (i - 4)] for i in range(5)]
    scheduled = Scheduled(make_recipe(data__length=128, length={"part": "stages", "stages": stages}), full_rows=8)
    assert [scheduled(i / 10, 0, UNKNOWN).length for i in range(11)] == [16] * 4 + [32] * 2 + [64] * 2 + [128] * 3


@given(st.floats(0.0, 1000.0))
def test_a_length_is_the_nearest_by_ratio(wanted: float) -> None:
    """Never further away than the square root of two, where there is one on both sides."""
    found = nearest_length(wanted, [128, 64, 32, 16])
    assert found == 128 if wanted > 91 else 16 if wanted < 22 else 0.7 < found / wanted < 1.42


def test_the_batch_follows_the_noise_once_it_is_known(make_recipe: MakeRecipe) -> None:
    """Two rows at first; then 1.5 times the scale of 4 rows, in twos; all where no signal is seen; never more than all."""
    scheduled = Scheduled(make_recipe(batch__noise=1.5, batch__least_tokens=64), full_rows=11)
    known = [UNKNOWN, Estimate(1.0, 4.0), Estimate(1.0, 0.01), Estimate(1.0, 100.0), Estimate(-1.0, 4.0)]
    assert [scheduled(0.3, 0, noise).rows for noise in known] == [2, 6, 2, 11, 11]


@pytest.mark.parametrize("levels", [1, 2, 3, 6])
def test_a_falling_mask_rate_has_as_many_levels_as_it_was_given(levels: int) -> None:
    """Each level compiles the head once, so one more than asked for is one compile too many."""
    at = Levels(Ramp(start=1.0, end=0.5), levels)
    assert len({at(i / 1000) for i in range(1001)}) == levels


@given(st.floats(0.1, 1.0), st.floats(0.1, 1.0), st.floats(0.0, 1.0), st.integers(2, 9), st.floats(0.0, 1.0))
def test_a_level_is_the_nearest_to_the_schedule(
    start: float, end: float, until: float, levels: int, fraction: float
) -> None:
    """Never further away than half the distance between two levels, and always between the ends."""
    schedule = Ramp(start=start, end=end, until=until)
    level = Levels(schedule, levels)(fraction)
    assert abs(level - schedule(fraction)) <= abs(start - end) / (levels - 1) / 2 + 1e-9
    assert min(start, end) - 1e-9 <= level <= max(start, end) + 1e-9


def test_a_constant_mask_rate_has_one_level(tiny: Recipe) -> None:
    """Whatever number of levels the recipe allows."""
    at = Levels(Constant(), 6)
    assert {at(i / 10) for i in range(11)} == {1.0}
