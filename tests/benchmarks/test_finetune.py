"""The rows that are fine-tuned on, and how alternating epochs become examples a second."""

from collections.abc import Callable

import torch
from finetune import LONGEST, alternating, make_rows


def test_the_first_epoch_of_each_counts_for_neither() -> None:
    """Theirs takes 9, 4 and 4 seconds, ours 7, 2 and 2: 10 examples are 2.5 and 5 a second, ours twice as fast."""
    times = {"ours": iter([7.0, 2.0, 2.0]), "theirs": iter([9.0, 4.0, 4.0]), "same_weights": iter([1.0, 5.0, 5.0])}
    calls: dict[str, Callable[[], float]] = {name: values.__next__ for name, values in times.items()}
    answer = alternating(calls, 2, 10)
    assert (2.0, 0.8) == (answer["ours_ratio"], answer["same_weights_ratio"])
    assert (2.5, 5.0) == tuple(answer[f"{side}_examples_per_second"].median for side in ("theirs", "ours"))


def test_rows_are_short_as_the_tasks_are_and_equal_each_time() -> None:
    """8 to 96 tokens, half of them below 30, two classes, no special token; the same rows for every caller."""
    rows, again = (make_rows(400, 8192, torch.device("cpu")) for _ in range(2))
    assert (8, True) == (rows.host_lengths.min(), rows.host_lengths.max() <= LONGEST)
    assert sorted(rows.host_lengths)[200] < 30
    assert rows.labels is not None
    assert {0, 1} == set(rows.labels.tolist())
    assert int(rows.ids.min()) >= 5
    assert torch.equal(rows.ids, again.ids)
