"""The rules of choosing, against figures written by hand."""

from collections.abc import Callable

import pytest
import torch

from gpuday.recipe import Recipe
from gpuday.train import choices
from gpuday.train.choices import (
    choose_dtype,
    choose_threads,
    first_that_fits,
    predicted_bytes,
    search,
    sizes_to_try,
    smallest_near_best,
    thread_candidates,
)
from gpuday.train.trial import Point

CPU = torch.device("cpu")
MakeRecipe = Callable[..., Recipe]


def point(rows: int, *, seconds: float = 1.0, size: int = 0) -> Point:
    return Point(rows=rows, seconds=seconds, bytes=size, spent=3 * seconds)


@pytest.mark.parametrize(
    ("speeds", "wanted"),
    [
        ({16: 97.0, 32: 99.0, 64: 100.0, 128: 98.0}, 16),
        ({16: 94.9, 32: 95.0, 64: 100.0}, 32),
        ({16: 50.0, 32: 70.0, 64: 100.0}, 64),
        ({16: 100.0, 32: 80.0}, 16),
        ({4: 1.0}, 4),
    ],
)
def test_the_smallest_within_five_percent_of_the_best_wins(speeds: dict[int, float], wanted: int) -> None:
    """Small micro-batches need less memory, and leave a batch ramp more steps."""
    assert smallest_near_best(speeds) == wanted


def test_memory_is_predicted_along_a_line() -> None:
    """By hand: 100 and 140 bytes at 10 and 20 rows are 4 a row beside 60, so 40 rows take 220."""
    assert predicted_bytes([point(10, size=100), point(20, size=140)], 40) == 220
    assert predicted_bytes([point(10, size=100), point(20, size=140)], 5) == 80


def test_from_one_point_the_most_is_expected() -> None:
    """The constant part is not known yet: in proportion, which is never less."""
    assert predicted_bytes([point(10, size=100)], 20) == 200


def test_a_size_beyond_the_headroom_is_not_tried() -> None:
    """100 bytes a row: with room for 1,000 the search ends before 16 rows, and says how much was missing."""
    tried: list[int] = []

    def measure(rows: int) -> Point:
        tried.append(rows)
        return point(rows, size=100 * rows)

    points, ended = search([4, 8, 16, 32], measure, room=1000.0, seconds_left=lambda: 1e9)
    assert tried == [p.rows for p in points] == [4, 8]
    assert ended.startswith("16 rows would take")


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA"), MemoryError(), RuntimeError("can't allocate memory")]
)
def test_running_out_of_memory_ends_the_search(error: Exception) -> None:
    """What was measured before stands."""

    def measure(rows: int) -> Point:
        if rows > 8:
            raise error
        return point(rows)

    points, ended = search([4, 8, 16, 32], measure, room=1e9, seconds_left=lambda: 1e9)
    assert [p.rows for p in points] == [4, 8]
    assert ended == "16 ran out of memory"


def test_another_error_is_not_taken_for_a_lack_of_memory() -> None:
    """A fault in the model shows itself."""

    def measure(rows: int) -> Point:
        if rows > 4:
            raise RuntimeError("shapes do not match")
        return point(rows)

    with pytest.raises(RuntimeError, match="shapes"):
        search([4, 8], measure, room=1e9, seconds_left=lambda: 1e9)


def test_the_first_size_must_fit() -> None:
    """Its error goes to whoever knows the recipe."""

    def measure(rows: int) -> Point:
        raise MemoryError

    with pytest.raises(MemoryError):
        search([4, 8], measure, room=1e9, seconds_left=lambda: 1e9)


def test_half_is_tried_where_the_smallest_size_does_not_fit() -> None:
    """A small card trains a large model a few rows at a time."""
    tried: list[int] = []

    def measure(rows: int) -> Point:
        tried.append(rows)
        if rows > 20:
            raise torch.OutOfMemoryError
        return point(rows)

    assert first_that_fits(64, measure, CPU).rows == 16
    assert tried == [64, 32, 16]


def test_not_even_one_row_is_an_error() -> None:
    """And a fault in the model is one at once."""
    tried: list[int] = []

    def measure(rows: int) -> Point:
        tried.append(rows)
        raise MemoryError if len(tried) < 5 else RuntimeError("shapes do not match")

    with pytest.raises(MemoryError):
        first_that_fits(4, measure, CPU)
    assert tried == [4, 2, 1]
    tried.extend([0, 0])
    with pytest.raises(RuntimeError, match="shapes"):
        first_that_fits(4, measure, CPU)


def test_a_size_that_would_take_too_long_is_not_tried() -> None:
    """Measuring 4 rows took 6 s, so that 8 take 12, and 10 are left; the first size is tried with no time at all."""
    points, ended = search([4, 8], lambda rows: point(rows, seconds=2.0), room=1e9, seconds_left=lambda: 10.0)
    assert [p.rows for p in points] == [4]
    assert ended == "there was no time to try 8"


def test_sizes_are_counted_in_tokens_and_end_at_the_step(make_recipe: MakeRecipe) -> None:
    """Rows of 32 tokens: 2,048 to 16,384 tokens, none beyond a step whose rows are fixed, and what a person fixed alone."""
    given = [(0, 0), (0, 150), (0, 8), (6, 8)]
    sizes = [sizes_to_try(make_recipe(train__microbatch=m, batch__rows=b), CPU) for m, b in given]
    assert sizes == [[64, 128, 256, 512], [64, 128], [8], [6]]


@pytest.mark.parametrize(
    ("told", "there", "wanted"), [("", 6, [6, 3, 1]), ("", 1, [1]), ("3", 8, [3]), ("64", 8, [8]), ("4,2", 8, [4])]
)
def test_threads_are_halved_unless_a_person_says_how_many(
    monkeypatch: pytest.MonkeyPatch, told: str, there: int, wanted: list[int]
) -> None:
    """OMP_NUM_THREADS is an order, up to the cores there are."""
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    monkeypatch.setattr(choices, "cores", lambda: there)
    assert thread_candidates(CPU) == wanted


@pytest.mark.parametrize(
    ("told", "there", "ranks", "wanted"), [("1", 8, 2, 8), ("", 7, 4, 7), ("2", 8, 3, 6), ("4", 8, 4, 8)]
)
def test_ranks_of_a_machine_take_all_cores_together(
    monkeypatch: pytest.MonkeyPatch, told: str, there: int, ranks: int, wanted: int
) -> None:
    """The 1 that torchrun sets by itself is no order; another number is one, for each rank. And the reason says so."""
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    monkeypatch.setattr(choices, "cores", lambda: there)
    assert thread_candidates(CPU) == [wanted]
    threads, why = choose_threads([wanted], point, 4, lambda: 1e9)
    assert (threads, why) == (wanted, f"{wanted}: shared by the {ranks} ranks of this machine")


def test_a_gpu_leaves_the_threads_alone() -> None:
    """0 is the process's own number."""
    assert thread_candidates(torch.device("cuda")) == [0]
    assert choose_threads([0], point, 4, lambda: 1e9)[0] == 0


@pytest.mark.parametrize(
    ("seconds", "wanted", "tried"),
    [
        ({8: 1.00, 4: 1.02, 2: 2.0, 1: 4.0}, 4, [8, 4, 2]),
        ({8: 1.0, 4: 1.9, 2: 4.0, 1: 8.0}, 8, [8, 4]),
        ({8: 2.0, 4: 1.5, 2: 1.0, 1: 1.0}, 1, [8, 4, 2, 1]),
    ],
)
def test_the_fewest_threads_near_the_fastest_are_set(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float], wanted: int, tried: list[int]
) -> None:
    """Halving ends where it costs more than 5%; the answer holds from then on."""
    used: list[int] = []
    monkeypatch.setattr(choices, "use_threads", used.append)
    threads, why = choose_threads(list(seconds), lambda rows: point(rows, seconds=seconds[used[-1]]), 4, lambda: 1e9)
    assert threads == wanted and why.startswith(f"{wanted}: ")
    assert used == [*tried, wanted]


def test_without_time_all_cores_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the reason says that nothing else was tried."""
    monkeypatch.setattr(choices, "use_threads", lambda count: None)
    threads, why = choose_threads([8, 4], point, 4, lambda: -1.0)
    assert threads == 8 and "no time" in why


@pytest.mark.parametrize(
    ("wanted", "fast", "dtype"),
    [("auto", True, torch.bfloat16), ("auto", False, torch.float32), ("bfloat16", False, torch.bfloat16)],
)
def test_auto_is_bf16_where_its_products_are_faster(
    monkeypatch: pytest.MonkeyPatch, wanted: str, fast: bool, dtype: torch.dtype
) -> None:
    """Emulated bf16 is slower than fp32, so that it is not taken there; what a person fixed stands."""
    monkeypatch.setattr(choices, "has_bf16", lambda device: fast)
    monkeypatch.setattr(choices, "measure_bound", lambda device, dtype, width: 3.0 if dtype == torch.bfloat16 else 2.0)
    chosen, why = choose_dtype(wanted, CPU, 256)
    assert chosen == dtype
    assert ("1.5 times" in why) is (wanted == "auto" and fast)
