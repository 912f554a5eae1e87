from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuday.core.errors import DataError
from gpuday.data.document import Document, DropCounter
from gpuday.data.sources import pydocs
from gpuday.data.sources.pydocs import Pydocs, docstring_items

SAME = "This paragraph stands in more than one of the modules."


def module(*paragraphs: str) -> str:
    return '"""' + "\n\n".join(paragraphs) + '\n"""\n'


def sentence(topic: str, number: int) -> str:
    return f"The {topic} is described here in sentence number {number} of them all."


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small standard library and a site folder with two packages."""
    files = {
        "lib/ast.py": module(sentence("tree", 1), SAME),
        "lib/test/test_ast.py": module(sentence("test", 1)),
        "lib/pydoc_data/topics.py": f"topics = {{'a': '{sentence('topic', 1)}'}}",
        "site-packages/big/nn/a.py": module(SAME, *(sentence("layer", i) for i in range(20))),
        "site-packages/big/nn/b.py": "def f():\n    " + module(sentence("function", 1), SAME.upper()),
        "site-packages/big/optim.py": module(*(sentence("step", i) for i in range(20))),
        "site-packages/big/broken.py": "def (",
        "site-packages/small.py": module(*(sentence("case", i) for i in range(8))),
        "site-packages/big-1.2.dist-info/METADATA": "",
        "site-packages/small-0.1.dist-info/METADATA": "",
        "site-packages/evil.py": 'raise SystemExit("imported")\n',
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(pydocs.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path / "lib")})
    monkeypatch.setattr(pydocs.sys, "path", [str(tmp_path / "site-packages")])
    pydocs._modules.cache_clear()
    yield tmp_path / "site-packages"
    pydocs._modules.cache_clear()


def documents(max_share: float = 1.0) -> list[Document]:
    return list(Pydocs(max_share=max_share).documents(DropCounter()))


def test_every_module_is_a_document(site: Path) -> None:
    """Standard library first; files before subfolders, sorted; tests are left out; nothing is imported."""
    assert [(d.id, d.group) for d in documents()] == [
        ("python/pydoc_data/topics", "python.pydoc_data"),
        ("python/ast", "python.ast"),
        ("small", "small"),
        ("big/optim", "big.optim"),
        ("big/nn/a", "big.nn"),
        ("big/nn/b", "big.nn"),
    ]


def test_a_paragraph_is_kept_once(site: Path) -> None:
    """The first of three copies, one of them in capitals."""
    found = [d.id for d in documents() if SAME.lower() in d.text.lower()]
    assert found == ["python/ast"]


def test_no_package_exceeds_its_share(site: Path) -> None:
    """Of what remains, not of what was there."""
    for share in (0.6, 0.7):
        sizes = Counter[str]()
        for d in documents(share):
            sizes[d.id.split("/")[0]] += len(d.text)
        assert sizes["small"]
        assert sizes["big"] <= share * sizes.total() * 1.02
    assert len(documents(1.0)) == 6


def test_a_share_that_makes_no_sense_is_refused(site: Path) -> None:
    """Zero would leave nothing."""
    with pytest.raises(DataError):
        documents(0)


def test_docstrings_come_with_their_package(site: Path) -> None:
    """The items of the offline task are the texts of the documents."""
    items = list(docstring_items(max_share=1))
    assert ("big", "big.nn", sentence("function", 1)) in items
    assert {package for package, _, _ in items} == {"python", "big", "small"}
    assert "\n".join(text for _, _, text in items) == "\n".join(d.text for d in documents())


def test_the_fingerprint_names_packages_and_versions(site: Path) -> None:
    """An upgrade is another corpus."""
    before = Pydocs().fingerprint()
    assert before["packages"] == {"big": "1.2", "small": "0.1"}
    (site / "big-1.2.dist-info").rename(site / "big-1.3.dist-info")
    assert Pydocs().fingerprint() != before


def test_the_standard_library_alone_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than half a million characters of prose, in the real one, with no package installed."""
    monkeypatch.setattr(pydocs, "_site_folders", list)
    pydocs._modules.cache_clear()
    found = documents(0.4)
    pydocs._modules.cache_clear()
    assert sum(len(d.text) for d in found) > 500_000
    assert len({d.group for d in found}) > 100
