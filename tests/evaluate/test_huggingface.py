import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from gpuday.core.errors import DataError
from gpuday.evaluate.huggingface import subject_of_folder
from gpuday.evaluate.model_folder import quiet
from gpuday.evaluate.subject import Subject
from gpuday.models.dropout import Dropout
from tiny_models import FAMILIES, PLACES, make_tokenizer, write_model

MOST = 48
PAIRS = (["the quick zebra jumps over the lazy river", "a mango"], ["a tree is standing", "it is."])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each family with its head for masked tokens."""
    with quiet():
        return {family: write_model(tmp_path_factory.mktemp("models") / family, family) for family in FAMILIES}


def opened(folder: Path) -> Subject:
    return subject_of_folder(folder, folder.parent / "scores")


def batch(subject: Subject) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """(ids, mask, types) of the pairs, padded by the subject's own padding."""
    rows = subject.reader.pairs(*PAIRS, MOST)
    width = max(len(row.ids) for row in rows)
    mask = torch.arange(width) < torch.tensor([[len(row.ids)] for row in rows])
    ids = torch.tensor([row.ids + [subject.reader.pad_id] * (width - len(row.ids)) for row in rows])
    if rows[0].types is None:
        return ids, mask, None
    return ids, mask, torch.tensor([(row.types or []) + [0] * (width - len(row.ids)) for row in rows])


def theirs(folder: Path, auto: Any) -> Any:
    with quiet(), torch.random.fork_rng(devices=[]):
        return auto.from_pretrained(folder).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_transformers_own_numbers(family: str, folders: dict[str, Path]) -> None:
    """Body and predictor on padded pairs, read by the folder's tokenizer, against the model's own call: to the bit."""
    subject = opened(folders[family])
    ids, mask, types = batch(subject)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders[family])
    given = dict(tokenizer(*PAIRS, truncation=True, max_length=MOST, padding=True, return_tensors="pt"))
    if types is None:
        given.pop("token_type_ids", None)
    assert torch.equal(given["input_ids"], ids)
    with torch.inference_mode():
        expected = theirs(folders[family], transformers.AutoModel)(**given).last_hidden_state
        logits = theirs(folders[family], transformers.AutoModelForMaskedLM)(input_ids=ids, attention_mask=mask.long())
        body = subject.body(dropout=0.0, dtype=torch.float32).eval()
        assert torch.equal(body(ids, mask, types)[mask], expected[mask])
        low = subject.body(dropout=0.0, dtype=torch.bfloat16).eval()(ids, mask, types)
    assert low.dtype == torch.bfloat16
    assert low[mask].float() == pytest.approx(expected[mask], abs=0.1)
    positions = torch.tensor([1, ids.shape[1] + 2, 3])
    predictor = subject.predictor()
    assert predictor is not None
    found = predictor.logits(ids, mask, positions)
    # The decoder's product has fewer rows here, which another kernel may sum in another order.
    torch.testing.assert_close(found, logits.logits.flatten(0, 1)[positions], rtol=0.0, atol=2e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_is_the_protocol_s_everywhere(family: str, folders: dict[str, Path]) -> None:
    """Each probability of the encoder is the one asked for; at 0 a body in training answers as one in evaluation."""
    subject = opened(folders[family])
    ids, mask, types = batch(subject)
    body = subject.body(dropout=0.3, dtype=torch.float32)
    assert {(type(m), m.p) for m in body.modules() if isinstance(m, torch.nn.Dropout)} == {(Dropout, 0.3)}
    still = subject.body(dropout=0.0, dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(still.train()(ids, mask, types), still.eval()(ids, mask, types))
        assert not torch.equal(body.train()(ids, mask, types), body.eval()(ids, mask, types))


@pytest.mark.parametrize("family", ["bert", "roberta", "mpnet"])
def test_rows_end_where_the_table_of_positions_does(family: str, folders: dict[str, Path]) -> None:
    """The longest row is answered; RoBERTa's table has two places that no row uses."""
    subject = opened(folders[family])
    assert subject.length == PLACES
    body = subject.body(dropout=0.0, dtype=torch.float32).eval()
    for length in (subject.length, subject.length + 1):
        ids = torch.full((1, length), subject.reader.mask_id)
        if length > subject.length:
            with pytest.raises((IndexError, RuntimeError)):
                body(ids, torch.ones_like(ids, dtype=torch.bool), None)
        else:
            assert body(ids, torch.ones_like(ids, dtype=torch.bool), None).shape == (1, length, subject.width)


def test_copies_are_independent_and_draw_nothing(folders: dict[str, Path]) -> None:
    """Training one body changes no other, and making one leaves torch's stream where it was."""
    subject = opened(folders["bert"])
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first, second = (subject.body(dropout=0.1, dtype=torch.float32) for _ in range(2))
    assert torch.equal(torch.rand(2), expected)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    assert all(p.abs().sum() > 0 for name, p in second.named_parameters() if name.endswith("dense.weight"))
    assert all(p.grad_fn is None and p.requires_grad for p in second.parameters())


def test_a_folder_without_its_head_is_an_encoder_that_predicts_nothing(tmp_path: Path) -> None:
    """AutoModel's folder: the body is whole, the predictor is None with the reason, and the hash is the weights' own."""
    with quiet():
        folder = write_model(tmp_path / "plain", "bert", auto=transformers.AutoModel)
    subject = opened(folder)
    assert subject.predictor() is None
    assert "no weights for a head for masked tokens" in subject.no_predictor
    assert subject.model_hash == opened(folder).model_hash
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.1.output.dense.bias"] += 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert subject.model_hash != opened(folder).model_hash


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_folder_that_reads_or_computes_otherwise_has_another_hash(
    folders: dict[str, Path], tmp_path: Path, file: str
) -> None:
    """A value of the config, a word of the tokenizer, or the longest row, with the same weights; a copy has the same."""
    folder = Path(shutil.copytree(folders["bert"], tmp_path / "copy"))
    before = opened(folders["bert"]).model_hash
    assert opened(folder).model_hash == before
    values = json.loads((folder / file).read_text())
    if file == "tokenizer.json":
        vocab = values["model"]["vocab"]
        vocab["river"], vocab["mango"] = vocab["mango"], vocab["river"]
    else:
        values |= {"layer_norm_eps": 1e-3} if file == "config.json" else {"model_max_length": 16}
    (folder / file).write_text(json.dumps(values))
    assert opened(folder).model_hash != before


def test_who_saved_a_folder_does_not_change_its_hash(folders: dict[str, Path], tmp_path: Path) -> None:
    """Neither the version nor the class."""
    folder = Path(shutil.copytree(folders["bert"], tmp_path / "copy"))
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "architectures": None, "transformers_version": "0"}))
    assert opened(folder).model_hash == opened(folders["bert"]).model_hash


def test_weights_that_are_missing_are_refused(tmp_path: Path) -> None:
    """An encoder with drawn weights would be scored as if it had been trained."""
    with quiet():
        folder = write_model(tmp_path / "torn", "modernbert")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.Wi.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match="lacks weights of its encoder"):
        opened(folder)


def test_weights_of_another_shape_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    """A config that does not belong to the weights."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for file in folders["bert"].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    with pytest.raises(DataError, match="weights that fit its config"):
        opened(folder)


def test_a_tokenizer_of_another_model_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    """Ids beyond the table of tokens."""
    folder = tmp_path / "mixed"
    with quiet():
        write_model(folder, "bert")
    tokenizer = make_tokenizer("bytes")
    tokenizer.add_tokens([f"word{i}" for i in range(80)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(DataError, match="the tokenizer has ids up to"):
        opened(folder)
