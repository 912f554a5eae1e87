from collections import Counter

import numpy as np
import pytest

from gpuday.core.errors import DataError
from gpuday.evaluate.tasks.pydocs import PydocsConfig, build, name_pattern, split

SMALL = PydocsConfig(classes=3, train_per_class=40, dev_per_class=12, groups=6)


def items(packages: dict[str, int], groups: int = 12) -> list[tuple[str, str, str]]:
    """Distinct texts of every package, spread over its groups."""
    return [
        (p, f"{p}.g{i % groups}", f"{p} number {i} gives the array of its {p} values in group {i % groups}")
        for p, count in packages.items()
        for i in range(count)
    ]


def test_the_largest_packages_are_the_classes_with_capped_rows() -> None:
    """Three classes of at most forty rows; the fourth package is left out, whatever order the items come in."""
    found = items({"alpha": 500, "beta": 300, "gamma": 200, "delta": 100})
    data = build(found, SMALL)
    assert data.task.classes == ("alpha", "beta", "gamma")
    assert max(Counter(data.train.labels.tolist()).values()) <= 40
    assert max(Counter(data.dev.labels.tolist()).values()) <= 12
    again = build(found[::-1], SMALL)
    assert (again.train.text_a, again.data_hash) == (data.train.text_a, data.data_hash)


def test_train_and_dev_share_no_module_group_and_no_text() -> None:
    """A group is on one side only, and a text once in all."""
    data = build(items({"alpha": 500, "beta": 300}), SMALL)
    sides = [{(y, t.split()[-1]) for t, y in zip(r.text_a, r.labels, strict=True)} for r in (data.train, data.dev)]
    assert all(sides)
    assert not sides[0] & sides[1]
    texts = data.train.text_a + data.dev.text_a
    assert len(set(texts)) == len(texts)


def test_no_group_fills_a_side() -> None:
    """A package that is mostly one module gives at most a quarter of its rows from it."""
    groups = {
        "p.big": [f"big {i}" for i in range(500)],
        **{f"p.g{k}": [f"{k} {i}" for i in range(20)] for k in range(9)},
    }
    train, dev = split(groups, SMALL)
    assert sum(t.startswith("big") for t in train) <= 10
    assert not any(t.startswith("big") for t in dev)
    assert len(train) == 40
    assert len(dev) == 12


def test_names_of_all_classes_are_hidden() -> None:
    """The own name, the others' names, other spellings and longer words that begin with a name."""
    names = name_pattern(["torch", "numpy", "sklearn"])
    hidden = names.sub(
        "package", "PyTorch and NumPy (np.array), TorchScript, scikit-learn; torch.nn, but npz and input"
    )
    assert hidden == "package and package (package.array), packageScript, package; package.nn, but npz and input"
    data = build(items({"alpha": 500, "beta": 300}), SMALL)
    assert not any("alpha" in t or "beta" in t for t in data.train.text_a + data.dev.text_a)


def test_texts_are_cut_and_short_ones_left_out() -> None:
    """Between eight and forty words."""
    found = items({"alpha": 300, "beta": 300})
    found += [("alpha", "alpha.g1", "too short"), *(("beta", f"beta.g{i}", f"n{i} " + "word " * 99) for i in range(12))]
    data = build(found, SMALL)
    lengths = [len(t.split()) for t in data.train.text_a + data.dev.text_a]
    assert (min(lengths) >= 8, max(lengths) <= 40) == (True, True)


def test_labels_name_the_package() -> None:
    """Label i is class i."""
    found = [(p, g, t.replace(p, "x" if p == "alpha" else "y")) for p, g, t in items({"alpha": 300, "beta": 300})]
    data = build(found, SMALL)
    assert data.train.labels.dtype == np.int64
    assert all((t[0] == "y") == bool(y) for t, y in zip(data.train.text_a, data.train.labels, strict=True))


def test_too_few_packages_are_an_error() -> None:
    """One class is no task."""
    with pytest.raises(DataError, match="1 installed package"):
        build(items({"alpha": 500, "beta": 10}), SMALL)
