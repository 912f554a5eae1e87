"""How the profiler's events are booked: innermost event, kind by name and by what is around it."""

from dataclasses import dataclass

import pytest
from breakdown import OPTIMIZER, STEP, WAITING, book, kind_of


@dataclass
class Event:
    """What `book` reads of a profiler's event."""

    name: str
    self_cpu_time_total: float
    cpu_parent: "Event | None" = None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::mm", "matrix products"),
        ("aten::bmm", "attention products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "attention products"),
        ("graph_0_cpp_fused__softmax__to_copy_3", "fused pointwise"),
        ("aten::copy_", "other"),
    ],
)
def test_a_kernel_is_known_by_its_name(name: str, kind: str) -> None:
    """The names that torch and its compiler give."""
    assert kind == kind_of(name, {name, STEP})


def test_what_stands_around_an_event_comes_first() -> None:
    """Muon's products are the optimizer's, whatever they are called; a wait is a wait."""
    assert kind_of("aten::mm", {OPTIMIZER, STEP}) == "optimizer"
    assert kind_of("aten::empty", {WAITING, STEP}) == "waiting"


def test_every_microsecond_inside_a_step_is_booked_once() -> None:
    """Own times add up to the whole; what happens outside of a step, or on the loader's thread, is not part of it."""
    step = Event(STEP, 5.0)
    update = Event(OPTIMIZER, 2.0, step)
    events = [
        step,
        update,
        Event("aten::mm", 40.0, update),
        Event("aten::mm", 30.0, Event("CompiledFunction", 3.0, step)),
        Event("aten::bmm", 20.0, step),
        Event("aten::mm", 1000.0),
    ]
    booked = book(events)
    assert {"optimizer": 42.0, "matrix products": 30.0, "attention products": 20.0, "other": 5.0} == {
        kind: microseconds for kind, microseconds in booked.items() if microseconds
    }
