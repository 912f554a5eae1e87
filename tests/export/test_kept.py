import json

import pytest

from gpuday.core.errors import DataError, UsageError
from gpuday.evaluate.tasks.parsing import Columns
from gpuday.export.kept import NAME, Kept, read_kept, write_kept

KEPT = Kept(
    format="transformers", subject="run", typed=False, head="bert", width=64, length=32, task="mood",
    kind="classification", classes=("bad", "good"), options=0, pair=False, metrics=("accuracy",), may_be_absent=False,
    columns=Columns(text_a="review"), protocol="P1-bert", seed=0,
)  # fmt: skip


def test_it_is_read_as_it_was_written(tmp_path):
    """And names the task with its kind, classes and width of head."""
    write_kept(KEPT, tmp_path)
    assert read_kept(tmp_path) == KEPT
    assert (KEPT.as_task().name, KEPT.as_task().outputs) == ("mood", 2)


def test_one_of_before_there_was_a_choice_reads_position_0(tmp_path):
    """Every model was kept so."""
    write_kept(KEPT, tmp_path)
    values = json.loads((tmp_path / NAME).read_text())
    assert values.pop("pooling") == "first"
    (tmp_path / NAME).write_text(json.dumps(values))
    assert read_kept(tmp_path) == KEPT


def test_a_folder_without_it_is_no_kept_model(tmp_path):
    """The fix says where kept models are."""
    with pytest.raises(DataError, match="not a kept model") as error:
        read_kept(tmp_path)
    assert "finetuned/" in error.value.fix


@pytest.mark.parametrize(
    "change",
    [
        {"length": 1 << 40}, {"length": "32"}, {"length": 0}, {"classes": []}, {"kind": "poem"}, {"code": "import os"},
        {"columns": {"text_a": 3}}, {"head": "../head"}, {"kind": "choice", "options": 0}, {"width": -1}, {"head": "paper"},
        {"pooling": "max"}, {"pooling": "mean"},
    ],
)  # fmt: skip
def test_a_foreign_file_is_refused(change, tmp_path):
    """Unknown keys, wrong types, and sizes that nothing has."""
    write_kept(KEPT, tmp_path)
    values = json.loads((tmp_path / NAME).read_text())
    (tmp_path / NAME).write_text(json.dumps(values | change))
    with pytest.raises(DataError) as error:
        read_kept(tmp_path)
    assert not isinstance(error.value, UsageError) and error.value.fix
