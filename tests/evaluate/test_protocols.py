from dataclasses import asdict, fields

import pytest

from gpuday.evaluate.protocols import P1, P2, PROTOCOLS, Protocol

PUBLISHED = {
    "epochs": 5, "batch": 16, "lr": 4e-5, "beta1": 0.9, "beta2": 0.98, "eps": 1e-6, "weight_decay": 0.0, "warmup": 0.1,
    "schedule": "cosine", "dropout": 0.1, "max_tokens": 128, "head": "paper", "rows": None, "decay_by_share": False,
    "sweep": None, "pooling": None,
}  # fmt: skip


def test_p1_is_the_published_protocol() -> None:
    """Every hyperparameter of the cramming paper's evaluation; a change here would need another name."""
    assert asdict(P1) == {"name": "P1", "seeds": 5, **PUBLISHED}


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("P1-small", {"lr": 5e-4}),
        ("P1-short", {"rows": 8000, "seeds": 3}),
        ("P1-small-short", {"lr": 5e-4, "rows": 8000, "seeds": 3}),
    ],
)
def test_its_siblings_differ_in_what_their_names_say(name: str, changed: dict[str, object]) -> None:
    """The rate for narrow models, the rows and seeds for small machines, or both; nothing else."""
    assert asdict(PROTOCOLS[name]) == {**asdict(P1), "name": name, **changed}


@pytest.mark.parametrize(
    ("task", "epochs"),
    [("CoLA", (2, 5, 10)), ("SST-2", (1, 2, 3)), ("MRPC", (2, 5, 10)), ("STS-B", (2, 5, 10)), ("QQP", (2, 5, 10)),
     ("MNLI", (1, 2, 3)), ("QNLI", (2, 5, 10)), ("RTE", (1, 2, 3))],
)  # fmt: skip
def test_p2_tries_the_published_grid(task: str, epochs: tuple[int, ...]) -> None:
    """Appendix E.1 of arXiv 2412.13663: four rates, four decays, three numbers of epochs by task, batches of 64."""
    settings = P2.settings(task)
    assert len(settings) == len(set(settings)) == 4 * 4 * 3
    assert {s.lr for s in settings} == {1e-5, 3e-5, 5e-5, 8e-5}
    assert {s.weight_decay for s in settings} == {1e-6, 5e-6, 8e-6, 1e-5}
    assert {s.epochs for s in settings} == set(epochs)
    assert {(s.name, s.batch, s.schedule, s.warmup, s.sweep) for s in settings} == {("P2", 64, "linear", 0.06, None)}


@pytest.mark.parametrize(
    ("task", "lr", "decay", "epochs"),
    [("CoLA", 8e-5, 1e-6, 5), ("MNLI", 5e-5, 5e-6, 1), ("MRPC", 5e-5, 5e-6, 10), ("QNLI", 8e-5, 5e-6, 2),
     ("QQP", 5e-5, 5e-6, 10), ("RTE", 5e-5, 1e-5, 3), ("SST-2", 8e-5, 1e-5, 2), ("STS-B", 8e-5, 5e-6, 10)],
)  # fmt: skip
def test_p2_holds_what_was_best_for_modernbert(task: str, lr: float, decay: float, epochs: int) -> None:
    """Each row of the base model in table 6 of arXiv 2412.13663 is one of the settings that are tried."""
    assert (lr, decay, epochs) in {(s.lr, s.weight_decay, s.epochs) for s in P2.settings(task)}


def test_three_tasks_start_from_mnli_under_p2_alone() -> None:
    """RTE, MRPC and STS-B; under P1 none does."""
    tasks = ("CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE")
    assert {task for task in tasks if P2.parent(task) == "mnli"} == {"RTE", "MRPC", "STS-B"}
    assert not any(P1.parent(task) for task in tasks)


def test_a_protocol_without_a_sweep_is_its_own_setting() -> None:
    """One setting for all tasks is what P1 stands for."""
    assert P1.settings("CoLA") == (P1,)


def test_protocols_are_values() -> None:
    """They can be keys, and every field is explained by its type alone in JSON: no callable hides in them."""
    assert len({*PROTOCOLS.values()}) == len(PROTOCOLS)
    assert {f.name for f in fields(Protocol)} == set(asdict(P2))
