"""Kept folders that are damaged or hostile, and answers in parts."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from gpuday.core.clock import Budget
from gpuday.core.errors import DataError
from gpuday.evaluate.subject import subject_of_run
from gpuday.evaluate.tasks.rows import Rows
from gpuday.export import predicting
from gpuday.export.finetuned import _differs
from gpuday.export.predicting import load_finetuned
from gpuday.presets import find
from tuned import keep_one


@pytest.fixture
def native(modern, make_trained, tmp_path):
    return keep_one(tmp_path / "kept", subject_of_run(make_trained(modern)), "classification")


@pytest.fixture
def own(make_trained, tmp_path):
    whole = find("crammed")("nano", Budget.parse("10m")).model
    config = replace(whole, width=64, shape=replace(whole.shape, layers=2))
    return keep_one(tmp_path / "kept", subject_of_run(make_trained(config)), "classification")


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_word_that_was_not_read_has_no_tag(modern, make_trained, tmp_path):
    """Neither tag nor probability, as many as there are words; against the scored answers it counts as no change."""
    kept = keep_one(tmp_path / "kept", subject_of_run(make_trained(modern)), "tagging")
    words = ("river",) * 60
    (answer,) = load_finetuned(kept.folder).predict(Rows(text_a=(" ".join(words),), labels=None, words=(words,)))
    read = [tag for tag in answer["prediction"] if tag is not None]
    assert 0 < len(read) < 60 == len(answer["prediction"]) and set(read) <= set(kept.data.task.classes)
    assert answer["prediction"][len(read) :] == answer["probability"][len(read) :] == [None] * (60 - len(read))
    assert not _differs(answer["prediction"], [*read, *["O"] * (60 - len(read))])
    assert _differs(answer["prediction"], ["other"] * 60)


def test_answers_do_not_depend_on_the_parts_they_are_given_in(native, monkeypatch):
    """Rows come in parts of a thousand; what is in a part changes padding, and so no more than rounding."""
    model, rows = load_finetuned(native.folder), native.data.dev
    whole = list(model.predict(rows))
    monkeypatch.setattr(predicting, "ROWS", 2)
    parts = list(model.predict(rows))
    assert [a["prediction"] for a in parts] == [a["prediction"] for a in whole]
    np.testing.assert_allclose([a["probability"] for a in parts], [a["probability"] for a in whole], atol=2e-6)
    assert all(abs(sum(a["probabilities"].values()) - 1) < 1e-5 for a in whole)


def test_a_damaged_native_folder_is_refused(native):
    """Files that are gone, cut off, of another class, or larger than their weights; with the fix, never a traceback."""
    folder = native.folder
    config, task, weights = folder / "config.json", folder / "task.json", folder / "model.safetensors"
    whole = {path: path.read_bytes() for path in (config, task, weights, folder / "tokenizer.json")}
    for spoil in (
        lambda: weights.write_bytes(whole[weights][:1000]),
        lambda: weights.write_bytes(b"\x80\x04K\x01."),  # a pickle
        weights.unlink,
        lambda: change_weights(folder, lambda w: w.pop("classifier.bias")),
        lambda: change_weights(folder, lambda w: w.update(more=torch.zeros(1))),
        lambda: edit(config, hidden_size=1 << 16),
        lambda: edit(config, num_hidden_layers=10**9),
        lambda: edit(config, num_attention_heads="eight"),
        lambda: edit(config, architectures=["BertForMaskedLM"]),
        lambda: edit(config, max_position_embeddings=4),
        lambda: edit(config, classifier_pooling="mean"),
        lambda: edit(task, pooling="mean"),
        lambda: config.write_text("[]"),
        lambda: edit(task, head="paper"),
        lambda: edit(task, classes=["one", "two", "three"]),
        lambda: (folder / "tokenizer.json").write_text("{}"),
    ):
        spoil()
        with pytest.raises(DataError) as error:
            load_finetuned(folder)
        assert error.value.exit_code == 3 and error.value.fix
        for path, content in whole.items():
            path.write_bytes(content)
    assert list(load_finetuned(folder).predict(native.data.dev))


def test_a_damaged_folder_of_our_own_is_refused(own):
    """An encoder of other sizes is never built."""
    folder = own.folder
    outline, weights = folder / "encoder.json", folder / "model.safetensors"
    whole = {path: path.read_bytes() for path in (outline, weights)}
    values = json.loads(whole[outline])
    for spoil in (
        lambda: edit(outline, encoder=values["encoder"] | {"width": 1 << 16}),
        lambda: edit(outline, encoder=values["encoder"] | {"mixer": {"part": "os.system"}}),
        lambda: edit(outline, vocab=1 << 20),
        lambda: edit(outline, length=4),
        lambda: edit(outline, code="import os"),
        lambda: change_weights(folder, lambda w: w.pop("output.bias")),
        outline.unlink,
    ):
        spoil()
        with pytest.raises(DataError) as error:
            load_finetuned(folder)
        assert error.value.exit_code == 3 and error.value.fix
        for path, content in whole.items():
            path.write_bytes(content)
    assert list(load_finetuned(folder).predict(own.data.dev))
