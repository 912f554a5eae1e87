import pytest

from gpuday.core.errors import UsageError
from gpuday.export.place import CARD, replacing

FILES = {CARD, "model.safetensors"}


def fill(folder, text="gpuday"):
    (folder / CARD).write_text(text)
    (folder / "model.safetensors").write_bytes(b"weights")


def test_a_folder_appears_when_it_is_filled(tmp_path):
    """Not before, under its own name, and alone."""
    place = tmp_path / "a" / "mine"
    with replacing(place, FILES) as building:
        fill(building)
        assert not place.exists() and building.parent == place.parent
    assert {path.name for path in place.iterdir()} == FILES
    assert [path.name for path in place.parent.iterdir()] == ["mine"]


def test_a_failure_leaves_the_older_folder(tmp_path):
    """Whatever was raised in between, as it was raised."""
    with replacing(tmp_path / "mine", FILES) as building:
        fill(building, "gpuday, the older one")
    with pytest.raises(KeyError), replacing(tmp_path / "mine", FILES) as building:
        fill(building)
        raise KeyError
    assert (tmp_path / "mine" / CARD).read_text() == "gpuday, the older one"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_what_no_export_wrote_is_not_replaced(tmp_path):
    """A folder with one file more, a card that is not ours, a link."""
    fill(tmp_path)
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="is not an earlier export"), replacing(tmp_path, FILES):
        pass
    (tmp_path / "thesis.tex").unlink()
    (tmp_path / CARD).write_text("mine")
    with pytest.raises(UsageError, match="is not an earlier export"), replacing(tmp_path, FILES):
        pass
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="is a link"), replacing(tmp_path / "link", FILES):
        pass
