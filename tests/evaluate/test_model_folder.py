import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from safetensors.torch import load_file, save_file

from gpuday.core.errors import DataError
from gpuday.evaluate.huggingface import subject_of_folder
from gpuday.evaluate.model_folder import find_folder, guarded, is_huggingface, quiet, read_config
from tiny_models import SIZES, make_tokenizer, write_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with quiet():
        return write_model(tmp_path / "bert", "bert")


def refused(folder: Path, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        subject_of_folder(folder, folder / "scores")
    assert caught.value.fix


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_folder_is_told_by_its_files(folder: Path, tmp_path: Path) -> None:
    """A model's folder, a folder of sentence-transformers, and one that is neither."""
    (tmp_path / "sentences").mkdir()
    (tmp_path / "sentences" / "modules.json").write_text("[]")
    assert is_huggingface(folder)
    assert is_huggingface(tmp_path / "sentences")
    assert not is_huggingface(tmp_path)


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
def test_a_decoder_is_refused(kind: str, tmp_path: Path) -> None:
    """A model that sees the past only, and one of two halves, with what to give instead."""
    sizes = {"n_embd": 32, "n_head": 2, "n_layer": 1} if kind == "gpt2" else {"d_model": 32, "num_layers": 1}
    transformers.AutoConfig.for_model(kind, vocab_size=50, **sizes).save_pretrained(tmp_path)
    refused(tmp_path, {"gpt2": "a decoder, not an encoder", "t5": "an encoder and a decoder"}[kind])


def test_a_bert_that_is_set_to_look_back_only_is_refused(folder: Path) -> None:
    """is_decoder makes its attention causal."""
    edit(folder / "config.json", is_decoder=True)
    refused(folder, "a decoder, not an encoder")


def test_pickled_weights_are_refused_with_the_way_out(folder: Path) -> None:
    """They are not read: the file is no pickle at all, and nobody notices."""
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(DataError, match="pickle") as caught:
        subject_of_folder(folder, folder)
    assert "save_pretrained" in caught.value.fix


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    """Neither safetensors nor a pickle."""
    (folder / "model.safetensors").unlink()
    refused(folder, "no model.safetensors")


def test_weights_in_parts_are_read(folder: Path) -> None:
    """An index and its files give what the one file gave."""
    whole = subject_of_folder(folder, folder).model_hash
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    files = {name: f"part-{i % 2}.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        part = {name: weights[name] for name in names if files[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert subject_of_folder(folder, folder).model_hash == whole


@pytest.mark.parametrize("name", ["../bert2/model.safetensors", "weights.bin", "missing.safetensors"])
def test_an_index_that_leads_elsewhere_is_refused(folder: Path, name: str) -> None:
    """To another folder, to a pickle, to nothing."""
    (folder / "model.safetensors").unlink()
    (folder / "weights.bin").write_bytes(b"never read")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
    refused(folder, "the index names no files of weights in this folder")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"model_type": "unheard"}', '{"model_type": "bert", "hidden_size": "x"}']
)
def test_a_damaged_config_is_refused(folder: Path, text: str) -> None:
    """Whatever the library makes of it, the file is named."""
    (folder / "config.json").write_text(text)
    refused(folder, r"config\.json does not hold a config")


def test_code_of_a_folder_is_never_run(folder: Path) -> None:
    """A class of the folder's own, for a model that the library does not know."""
    (folder / "own.py").write_text("raise SystemExit('this was run')")
    edit(folder / "config.json", model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModel": "own.Model"})
    refused(folder, "does not hold a config")


def test_a_damaged_tokenizer_is_refused(folder: Path) -> None:
    """A torn file."""
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {')
    refused(folder, "does not hold a tokenizer")


@pytest.mark.parametrize("role", ["pad", "mask"])
def test_a_tokenizer_without_what_is_needed_is_refused(folder: Path, role: str) -> None:
    """Rows are padded, and words masked."""
    make_tokenizer("wordpiece").save_pretrained(folder)
    edit(folder / "tokenizer_config.json", **{f"{role}_token": None})
    refused(folder, f"no {role} token")


def test_a_slow_tokenizer_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One without the library of fast ones knows no words and no spans."""

    class Slow:
        is_fast = False

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *a, **k: Slow())
    refused(folder, "no fast tokenizer")


@pytest.mark.parametrize("path", ["", "0_Transformer"])
def test_the_transformer_of_a_sentence_transformers_folder_is_found(folder: Path, path: str) -> None:
    """At the top or in a folder of its own, whatever pooling stands behind it."""
    kind = "sentence_transformers.models"
    modules = [{"path": "1_Pooling", "type": f"{kind}.Pooling"}, {"path": path, "type": f"{kind}.Transformer"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    assert find_folder(folder) == (folder / path)


@pytest.mark.parametrize("modules", [[], {"path": "x"}, [{"path": "../other", "type": "models.Transformer"}]])
def test_modules_that_name_no_transformer_inside_are_refused(folder: Path, modules: Any) -> None:
    """None, a list that is none, and a path that leads out of the folder."""
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(DataError, match="module"):
        find_folder(folder)


@pytest.mark.parametrize("name", ["no/such/folder/there", "../x", "a b"])
def test_a_folder_that_is_not_there_is_no_name_of_the_hub(name: str) -> None:
    """Nothing is asked for over the network."""
    with pytest.raises(DataError, match="there is no folder"):
        find_folder(Path(name))


def test_a_model_in_the_cache_is_found_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache's own layout: a folder of its name, the revision that main stands for, and that snapshot."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder.parent / "cache"))
    monkeypatch.setattr(transformers.utils.hub, "TRANSFORMERS_CACHE", str(folder.parent / "cache"), raising=False)
    model = folder.parent / "cache" / "models--owner--name"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("a" * 40)
    (model / "snapshots").mkdir()
    folder.rename(model / "snapshots" / ("a" * 40))
    assert find_folder(Path("owner/name")) == model / "snapshots" / ("a" * 40)


def test_a_name_that_is_not_in_the_cache_is_not_fetched() -> None:
    """The error says how it gets there."""
    with pytest.raises(DataError, match="no model of this name") as caught:
        find_folder(Path("owner/never-fetched"))
    assert "hf download owner/never-fetched" in caught.value.fix


def test_an_encoder_s_config_is_read(folder: Path) -> None:
    """The library's own class."""
    assert read_config(folder).hidden_size == SIZES["hidden_size"]


def test_quiet_puts_the_library_s_voice_back():
    """Verbosity and progress bars are as they were, also after an error."""
    from transformers.utils import logging

    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    with pytest.raises(KeyError), quiet():
        raise KeyError
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


@pytest.mark.parametrize(
    ("key", "value"), [("num_hidden_layers", 10**6), ("hidden_size", 10**9), ("max_position_embeddings", 10**12)]
)
def test_a_config_of_a_giant_is_refused(folder: Path, key: str, value: int) -> None:
    """Before anything of that size is built."""
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, key: value}))
    with pytest.raises(DataError, match=f"{key} is not a number from 0"):
        read_config(folder)


def test_too_little_memory_is_no_damage(tmp_path: Path) -> None:
    """It goes on as what it is."""

    def full() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        guarded(tmp_path, "weights", full)
