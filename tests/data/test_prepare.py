import dataclasses
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gpuday.core import config as configs
from gpuday.core import parts
from gpuday.core.errors import DataError, FitError, UsageError
from gpuday.data import prepare as room
from gpuday.data.corpus import parse_source
from gpuday.data.document import Document, DropCounter
from gpuday.data.filters import Filter
from gpuday.data.filters.compressibility import Compressibility
from gpuday.data.orders import Order
from gpuday.data.orders.sentences import Sentences
from gpuday.data.orders.unigram import Unigram
from gpuday.data.prepare import DataConfig, PreparedData, prepare
from gpuday.data.sources import Source

TOY = DataConfig(corpus=("synthetic:20000",), vocab=512, length=32)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """The toy corpus, prepared once."""
    return prepare(TOY, tmp_path_factory.mktemp("cache"))


def corpus_of(config: DataConfig) -> list[Document]:
    return [d for text in config.corpus for d in parse_source(text).documents(DropCounter())]


def decoded(data: PreparedData, which: str) -> list[str]:
    """Texts of the documents of a store, the last one cut where the last row ends."""
    store = getattr(data, which)
    stream = store.rows(np.arange(len(store))).ravel()
    ends = np.flatnonzero(stream == data.tokenizer.sep_id)
    return [data.tokenizer.decode(part.tolist()) for part in np.split(stream, ends)]


def test_the_rows_decode_to_the_training_text(toy: PreparedData) -> None:
    """In order, each document once, and nothing of the held-out part."""
    documents = [" ".join(d.text.split()) for d in corpus_of(TOY)]
    train, held = decoded(toy, "train"), decoded(toy, "heldout")
    assert len(train) > 100
    assert len(held) > 3
    for found in (train, held):
        assert all(text in documents for text in found[:-1])
        assert [documents.index(text) for text in found[:-1]] == sorted(documents.index(text) for text in found[:-1])
    assert not set(train) & set(held)
    assert len(train) + len(held) >= len(documents) - 2  # each may end in what does not fill a row


def test_the_folder_holds_what_others_read(toy: PreparedData) -> None:
    """The names of the run directory's contract, and counts that fit the stores."""
    names = {"tokenizer.json", "train.tok", "heldout.tok", "heldout.words", "drops.json", "manifest.json"}
    assert {p.name for p in toy.folder.iterdir()} == names
    counts = toy.manifest["counts"]
    assert counts["train_rows"] == len(toy.train)
    assert counts["train_tokens"] == len(toy.train) * 32
    assert counts["heldout_rows"] == len(toy.heldout)
    assert toy.manifest["fingerprint"] == toy.folder.name
    assert set(toy.manifest["seconds"]) == {"count", "tokenizer", "encode", "heldout"}
    assert toy.train.vocabulary == toy.words.vocabulary == toy.tokenizer.fingerprint
    toy.train.verify()
    toy.heldout.verify()


def test_the_second_time_costs_nothing(toy: PreparedData) -> None:
    """The same config finds the folder: no text is read, and nothing in it is written anew."""
    written, told = {file: file.stat().st_mtime_ns for file in toy.folder.rglob("*")}, list[str]()
    again = prepare(TOY, toy.folder.parent, progress=lambda event, **_: told.append(event))
    assert again.reused
    assert not toy.reused
    assert again.folder == toy.folder
    assert {file: file.stat().st_mtime_ns for file in toy.folder.rglob("*")} == written
    assert "stage" not in told


def test_two_preparations_write_the_same_bytes(toy: PreparedData, tmp_path: Path) -> None:
    """Every file but the manifest, which holds seconds."""
    again = prepare(TOY, tmp_path)
    files = [p.relative_to(toy.folder) for p in toy.folder.rglob("*") if p.is_file() and p.name != "manifest.json"]
    assert len(files) > 8
    for name in files:
        assert (toy.folder / name).read_bytes() == (again.folder / name).read_bytes()


def test_another_order_shares_the_tokens(toy: PreparedData) -> None:
    """Its scores are added to the folder that is there."""
    for order in (Unigram(), Sentences(), Unigram(reverse=True)):
        data = prepare(dataclasses.replace(TOY, order=order), toy.folder.parent)
        assert data.reused
        assert data.folder == toy.folder
        rows = order.rows(data.train, seed=0, epoch=0, expected_rows=100)
        score = order.score()
        assert score is not None
        scores = data.train.scores(score.name)[rows(np.arange(100))]
        assert (np.diff(scores if order == Unigram(reverse=True) else -scores) >= 0).all()
    toy.train.verify()


@pytest.mark.parametrize(
    ("key", "value"), [("length", 16), ("vocab", 576), ("seed", 1), ("corpus", ("synthetic:20001",)), ("cls", True)]
)
def test_other_data_is_another_folder(toy: PreparedData, tmp_path: Path, key: str, value: Any) -> None:
    """A change of any knob that moves a token is noticed."""
    assert prepare(configs.replace_at(TOY, key, value), tmp_path).folder.name != toy.folder.name


def test_documents_begin_and_end_as_configured(tmp_path: Path) -> None:
    """With `cls`, <cls> follows every <sep>."""
    data = prepare(configs.replace_at(TOY, "cls", True), tmp_path)
    stream = data.train.rows(np.arange(len(data.train))).ravel()
    assert stream[0] == data.tokenizer.cls_id
    assert (stream[1:][stream[:-1] == data.tokenizer.sep_id] == data.tokenizer.cls_id).all()
    starts = np.flatnonzero(np.diff(data.train.segments(np.arange(len(data.train))), axis=1).ravel())
    assert len(starts) > 50


def test_a_filter_drops_with_its_reason(tmp_path: Path) -> None:
    """Documents of noise are dropped from training and counted."""
    noise = [" ".join(f"{(i * 7919 + k * 104729) % 99991:x}#" for k in range(40)) for i in range(20)]
    (tmp_path / "a.txt").write_text(
        "\n\n".join([f"Sentence {i} of plain words comes again. " * 9 for i in range(300)] + noise)
    )
    config = DataConfig(corpus=(str(tmp_path / "a.txt"),), vocab=320, length=16, filters=(Compressibility(cutoff=0.5),))
    data = prepare(config, tmp_path / "cache")
    row = json.loads((data.folder / "drops.json").read_text())["train"]["at least 0.5 tokens per character"]
    assert 15 <= row["count"] <= 20
    assert not any("#" in text for text in decoded(data, "train"))


def test_held_out_text_can_be_given(toy: PreparedData, tmp_path: Path) -> None:
    """Then the corpus is trained on whole, and lines that both hold leave the held-out part."""
    unique = "A sentence of the held-out text that training text does not contain. "
    shared = corpus_of(TOY)[0].text
    (tmp_path / "held.txt").write_text(f"{unique * 9}\n\n{shared}")
    config = configs.replace_at(TOY, "heldout", (str(tmp_path / "held.txt"),))
    data = prepare(config, tmp_path / "cache")
    assert data.heldout.sources == ["held"]
    assert "does not contain" in decoded(data, "heldout")[0]
    assert len(data.train) > len(toy.train)
    assert any(key.startswith("heldout: paragraph also") for key in data.manifest["counts"]["dropped"])


def test_a_tokenizer_can_be_given(toy: PreparedData, tmp_path: Path) -> None:
    """Its file decides, not its path."""
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    shutil.copy(toy.folder / "tokenizer.json", one)
    shutil.copy(one, other)
    first = prepare(configs.replace_at(TOY, "tokenizer", str(one)), tmp_path / "cache")
    assert first.tokenizer.fingerprint == toy.tokenizer.fingerprint
    assert first.train.index == toy.train.index
    assert prepare(configs.replace_at(TOY, "tokenizer", str(other)), tmp_path / "cache").reused


def test_the_crammed_data_recipe_runs(tmp_path: Path) -> None:
    """WordPiece, the crammed normaliser, its filter and its order."""
    config = DataConfig(
        corpus=("synthetic:20000",), tokenizer="wordpiece", normalizer="crammed", vocab=512, length=32,
        filters=(Compressibility(cutoff=0.6),), order=Sentences(),
    )  # fmt: skip
    data = prepare(config, tmp_path)
    assert data.words.normalizer == "crammed"
    assert data.train.has_scores("sentences")
    assert decoded(data, "train")[1].islower()


def test_sources_are_packed_apart(tmp_path: Path) -> None:
    """Every row belongs to one source, in training and held-out text."""
    for name, word in (("a", "apple"), ("b", "berry")):
        (tmp_path / f"{name}.txt").write_text("\n\n".join(f"{word} number {i} {word} again" for i in range(400)))
    config = DataConfig(corpus=(str(tmp_path / "a.txt"), str(tmp_path / "b.txt")), vocab=320, length=16)
    data = prepare(config, tmp_path / "cache")
    for store in (data.train, data.heldout):
        assert store.sources == ["a", "b"]
        rows = np.arange(len(store))
        for row, source in zip(store.rows(rows).tolist(), store.source_of(rows).tolist(), strict=True):
            assert ("berry" if source == 0 else "apple") not in data.tokenizer.decode(row)


def test_two_corpora_with_files_of_one_name_share_no_document(tmp_path: Path) -> None:
    """Ids and groups are unique, the first corpus keeps those that it has alone, and no path gets into them."""
    for folder, word in (("a", "apple"), ("b", "berry")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "text.txt").write_text("\n\n".join(f"{word} {i} and again {word}" for i in range(400)))
    sources = [parse_source(str(tmp_path / folder)) for folder in "ab"]
    documents = list(room._documents(sources, DropCounter()))
    assert len(documents) == len({d.id for d in documents}) == len({d.group for d in documents}) == 800
    assert documents[:400] == list(sources[0].documents(DropCounter()))
    assert documents[401].id == "1:text/text.txt:1"
    data = prepare(DataConfig(corpus=(f"{tmp_path}/a", f"{tmp_path}/b"), vocab=320, length=16), tmp_path / "cache")
    held = [{int(word) for word in text.split() if word.isdecimal()} for text in decoded(data, "heldout")]
    apples, berries = (
        {n for text, numbers in zip(decoded(data, "heldout"), held, strict=True) if word in text for n in numbers}
        for word in ("apple", "berry")
    )
    assert len(apples | berries) > max(len(apples), len(berries)) > 3  # equal ids would hold out the same ones


def test_shards_do_not_change_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy: PreparedData) -> None:
    """Many small shards hold the same documents, but for the rests that are dropped; batches change nothing at all."""
    monkeypatch.setattr(room, "_BATCH_CHARACTERS", 3000)
    assert prepare(TOY, tmp_path / "a").train.index == toy.train.index
    monkeypatch.setattr(room, "SHARD_CHARACTERS", 10_000)
    data = prepare(TOY, tmp_path / "b")
    shards = len(data.train.index["shards"])
    assert shards > 5
    assert 0 <= len(toy.train) - len(data.train) <= shards
    whole = set(decoded(toy, "train"))
    assert sum(text in whole for text in decoded(data, "train")) >= len(whole) - 2 * shards


def test_progress_is_reported(tmp_path: Path) -> None:
    """Every stage, and the end."""
    events: list[tuple[str, dict[str, Any]]] = []
    prepare(TOY, tmp_path, progress=lambda event, **fields: events.append((event, fields)))
    assert [f["stage"] for e, f in events if e == "stage"] == ["count", "tokenizer", "encode", "heldout"]
    assert events[-1][0] == "prepared"
    assert events[-1][1]["reused"] is False


@pytest.mark.parametrize("text", ["", "\n\n \n", "word", "one two\n\nthree four", "ab " * 10 + "\n\n" + "cd " * 10])
def test_a_corpus_that_is_too_small_is_one_clear_error(tmp_path: Path, text: str) -> None:
    """Empty, one word, less than a row: a sentence with a fix, and nothing is left behind."""
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError) as fault:
        prepare(DataConfig(corpus=(str(tmp_path / "a.txt"),), vocab=320, length=128), tmp_path / "cache")
    assert fault.value.fix
    assert [p for p in (tmp_path / "cache").iterdir() if p.suffix != ".lock"] == []


def test_what_a_killed_preparation_left_is_removed(tmp_path: Path) -> None:
    """Its temporary folder is not taken for data, and does not stay."""
    folder = prepare(TOY, tmp_path).folder
    shutil.rmtree(folder)
    (tmp_path / f".{folder.name}.tmp").mkdir()
    (tmp_path / f".{folder.name}.tmp" / "tokenizer.json").write_text("half")
    assert not prepare(TOY, tmp_path).reused
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([f".{folder.name}.lock", folder.name])


def test_damaged_data_is_found_when_it_is_opened(tmp_path: Path) -> None:
    """A cut-off shard is an error that names it, not other training data."""
    folder = prepare(TOY, tmp_path).folder
    os.truncate(folder / "train.tok" / "00000.bin", 5000)
    with pytest.raises(DataError, match=r"00000\.bin"):
        PreparedData.open(folder)


def test_damaged_data_in_the_cache_is_set_aside_and_made_again(tmp_path: Path) -> None:
    """Under a name that says why, told, and the same to the byte."""
    folder, told = prepare(TOY, tmp_path).folder, []
    before = (folder / "train.tok" / "00000.bin").read_bytes()
    os.truncate(folder / "train.tok" / "00000.bin", 5000)
    again = prepare(TOY, tmp_path, progress=lambda event, **values: told.append((event, values)))
    assert again.folder == folder and not again.reused
    again.verify()
    assert (folder / "train.tok" / "00000.bin").read_bytes() == before
    assert (tmp_path / f"{folder.name}.bad-00000.bin").is_dir()
    assert next(v["message"] for e, v in told if e == "notice").endswith("00000.bin")


def test_text_that_has_no_room_is_refused_before_it_is_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 4 with the bytes that are needed and free, and the folder; nothing is left behind."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1))
    with pytest.raises(FitError, match=r"takes about [\d,]+ bytes, and 1 bytes are free") as caught:
        prepare(TOY, tmp_path)
    assert str(tmp_path) in caught.value.where and "GPUDAY_CACHE" in caught.value.fix
    assert [p.suffix for p in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize(("key", "value"), [("vocab", 500), ("length", 4), ("corpus", ()), ("heldout_characters", 0)])
def test_a_config_that_makes_no_sense_is_refused(key: str, value: Any) -> None:
    """Before anything is read."""
    with pytest.raises(UsageError):
        configs.replace_at(TOY, key, value)


@pytest.mark.parametrize("kind", [Filter, Order, Source])
def test_every_part_builds_and_survives_json(kind: type[parts.Part]) -> None:
    """From its defaults; the file's name finds it."""
    assert parts.names(kind)
    for name in parts.names(kind):
        part = parts.find(kind, name)()
        back = configs._convert_part(kind, json.loads(json.dumps(configs.to_dict(part))), name)
        assert back == part


def test_the_config_survives_json() -> None:
    """With parts inside."""
    config = DataConfig(filters=(Compressibility(cutoff=0.25),), order=Unigram(reverse=True))
    assert configs.from_dict(DataConfig, json.loads(json.dumps(configs.to_dict(config)))) == config
