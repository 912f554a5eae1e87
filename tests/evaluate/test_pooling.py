"""What heads of whole rows read: as the folder says it, and as it is asked for."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import transformers

from gpuday.core.errors import DataError, UsageError
from gpuday.evaluate.huggingface import subject_of_folder
from gpuday.evaluate.model_folder import quiet
from gpuday.evaluate.pooling import is_pooled, pooling_for, pooling_of_folder
from gpuday.evaluate.protocols import P1
from gpuday.evaluate.subject import Subject
from gpuday.models.downstream import Pooling
from tiny_models import write_model
from toy_tasks import TASKS

KIND = "sentence_transformers.models"
# As sentence-transformers wrote them: all switches, fewer of them, the one that is on unless it is off, and by name.
WRITTEN: list[tuple[dict[str, Any], Pooling | None]] = [
    ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False}, "mean"),
    ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False, "include_prompt": True}, "first"),
    ({"word_embedding_dimension": 32}, "mean"),
    ({"pooling_mode": "cls"}, "first"),
    ({"pooling_mode": ["mean"]}, "mean"),
    ({"pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True}, None),
    ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, None),
    ({"pooling_mode": "lasttoken"}, None),
]


def put(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def modules(pooling: str | None, transformer: str = "") -> list[dict[str, str]]:
    listed = [{"path": transformer, "type": f"{KIND}.Transformer"}]
    return listed if pooling is None else [*listed, {"path": pooling, "type": f"{KIND}.Pooling"}]


@pytest.mark.parametrize(("written", "wanted"), WRITTEN)
def test_the_settings_of_sentence_transformers_are_read(
    written: dict[str, Any], wanted: Pooling | None, tmp_path: Path
) -> None:
    """One of the two, or neither, with what was asked for instead."""
    put(tmp_path / "1_Pooling" / "config.json", written)
    found, why = pooling_of_folder(tmp_path, transformers.BertConfig())
    assert found == wanted and bool(why) == (wanted is None)
    assert wanted is not None or why.startswith("1_Pooling/config.json says ")


def test_the_settings_are_looked_for_where_the_modules_say(tmp_path: Path) -> None:
    """Beside the transformer, around it, under another name; those of another transformer, and of none, are not its own."""
    inner, config = tmp_path / "0_Transformer", transformers.BertConfig()
    put(tmp_path / "2_Pooling" / "config.json", {"pooling_mode": "mean"})
    for place, listed, wanted in (
        (inner, modules("2_Pooling", "0_Transformer"), "mean"),
        (tmp_path, modules("2_Pooling"), "mean"),
        (inner, modules("2_Pooling", "another"), "first"),
        (tmp_path, modules(None), "first"),
    ):
        put(tmp_path / "modules.json", listed)
        assert pooling_of_folder(place, config) == (wanted, ""), listed


@pytest.mark.parametrize("said", ["[]", "{", '"mean"'])
def test_damaged_settings_are_refused(said: str, tmp_path: Path) -> None:
    """The file is named."""
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(said)
    with pytest.raises(DataError, match="1_Pooling"):
        pooling_of_folder(tmp_path, transformers.BertConfig())


def test_a_config_may_say_it(tmp_path: Path) -> None:
    """ModernBERT's does, BERT's does not, EuroBERT's says what is not here; sentence-transformers is heard first."""
    assert pooling_of_folder(tmp_path, transformers.BertConfig()) == ("first", "")
    assert pooling_of_folder(tmp_path, transformers.ModernBertConfig()) == ("first", "")
    mean = transformers.ModernBertConfig(classifier_pooling="mean")
    assert pooling_of_folder(tmp_path, mean) == ("mean", "")
    found, why = pooling_of_folder(tmp_path, transformers.EuroBertConfig(classifier_pooling="late"))
    assert found is None and why == "classifier_pooling of its config says late"
    put(tmp_path / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True})
    assert pooling_of_folder(tmp_path, mean) == ("first", "")


def test_a_subject_has_the_pooling_of_its_folder(subject: Subject, tmp_path: Path) -> None:
    """A run's is position 0; two folders that differ in it alone are two subjects."""
    with quiet():
        folder = write_model(tmp_path / "bert", "bert")
    plain = subject_of_folder(folder, tmp_path)
    assert (subject.pooling, plain.pooling) == ("first", "first")
    put(folder / "1_Pooling" / "config.json", {"pooling_mode": "mean"})
    pooled = subject_of_folder(folder, tmp_path)
    assert pooled.pooling == "mean" and pooled.model_hash != plain.model_hash
    put(folder / "1_Pooling" / "config.json", {"pooling_mode": "cls"})
    assert subject_of_folder(folder, tmp_path).model_hash == plain.model_hash  # read as before: its scores still count


def test_what_is_asked_for_holds_and_else_the_subject_s_own(subject: Subject) -> None:
    """Heads of tokens read none; without either a fault says which flag helps."""
    row, asked = TASKS["classification"][0], replace(P1, pooling="mean")
    assert {kind for kind, (task, *_) in TASKS.items() if not is_pooled(task)} == {"tagging", "span"}
    assert (pooling_for(subject, row, P1), pooling_for(subject, row, asked)) == ("first", "mean")
    odd = replace(subject, pooling=None, no_pooling="it says max")
    assert pooling_for(odd, row, asked) == "mean" and pooling_for(odd, TASKS["tagging"][0], P1) is None
    with pytest.raises(UsageError, match="it says max") as refused:
        pooling_for(odd, row, P1)
    assert "--pooling first" in refused.value.fix
