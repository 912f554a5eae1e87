import json
from dataclasses import replace

import pytest
import torch
import transformers

from gpuday.core.clock import Budget
from gpuday.core.config import to_dict
from gpuday.core.errors import UsageError
from gpuday.core.rundir import write_json
from gpuday.evaluate.model_folder import quiet
from gpuday.evaluate.pooling import pooling_of_folder
from gpuday.evaluate.subject import subject_of_run
from gpuday.export import hf
from gpuday.export.native import Renaming
from gpuday.export.parity import ParityError
from gpuday.models.feedforward.relu2 import Relu2
from gpuday.objectives.hybrid import Hybrid
from gpuday.objectives.mlm import Mlm
from gpuday.objectives.rtd import Rtd
from gpuday.objectives.script import Script
from gpuday.presets import find
from gpuday.train import checkpoint
from gpuday.train.assemble import make_learner


@pytest.mark.parametrize("preset", ["modern", "bert"])
def test_a_run_becomes_a_folder_that_transformers_loads(preset, make_trained, request):
    """Text in, the trained model's logits out, by nothing but Auto classes on the folder."""
    trained = make_trained(request.getfixturevalue(preset))
    section = hf.export(trained)
    assert section["kind"] == {"modern": "modernbert", "bert": "bert"}[preset]
    assert section["parity_max_abs"] <= 1e-4
    assert (section["max_length"], section["folder"]) == (48, str(trained.run.model))
    assert (section["obstacles"], section["reason"]) == ({}, "")
    assert {path.name for path in trained.run.model.iterdir()} == hf.FILES
    assert [path.name for path in trained.run.root.iterdir()] == ["model"]  # no temporary folder is left
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained.run.model)
    batch = tokenizer(["the quick brown fox", "dog"], padding=True, return_tensors="pt")
    model = transformers.AutoModelForMaskedLM.from_pretrained(trained.run.model).eval()
    mask = batch["attention_mask"].bool()
    with torch.no_grad():
        theirs = model(**batch).logits[mask]
        ours = trained.model(batch["input_ids"], mask=mask).view(*mask.shape, -1)[mask]
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=0)


@pytest.mark.parametrize("preset", ["modern", "bert"])
def test_a_head_on_the_folder_reads_what_ours_do(preset, make_trained, request):
    """Position 0: whoever fine-tunes the folder elsewhere gets the pooling that the run's scores are of."""
    trained = make_trained(request.getfixturevalue(preset))
    hf.export(trained)
    config = transformers.AutoConfig.from_pretrained(trained.run.model)
    assert pooling_of_folder(trained.run.model, config) == (subject_of_run(trained).pooling, "")
    assert getattr(config, "classifier_pooling", "cls") == "cls"


def test_the_folder_fine_tunes(modern, make_trained):
    """A classifier of three classes loads from it and takes a step."""
    trained = make_trained(replace(modern, feedforward=Relu2(ratio=2.0)))
    hf.export(trained)
    with quiet():
        model = transformers.AutoModelForSequenceClassification.from_pretrained(trained.run.model, num_labels=3)
    trunk = model.model.embeddings.tok_embeddings.weight
    assert torch.equal(trunk, trained.model.encoder.embedding.weight)
    loss = model(input_ids=torch.arange(10)[None], labels=torch.tensor([1])).loss
    loss.backward()
    assert torch.isfinite(loss) and trunk.grad.abs().sum() > 0


def test_a_recipe_that_no_class_holds_gets_its_reasons(make_trained):
    """`crammed` writes nothing and names what stands in the way: of every class in the section, of the nearest in words."""
    crammed = find("crammed")("nano", Budget.parse("10m")).model
    trained = make_trained(replace(crammed, width=64))
    section = hf.export(trained)
    assert section["kind"] is None and section["parity_max_abs"] is None and section["folder"] is None
    assert any("position is scaled_sinusoidal" in sentence for sentence in section["obstacles"]["modernbert"])
    assert "not modernbert: position is scaled_sinusoidal" in section["reason"]
    assert any("feedforward is geglu" in sentence for sentence in section["obstacles"]["bert"])
    assert "not bert" not in section["reason"]
    assert not trained.run.model.exists()


def test_the_section_is_json(modern, make_trained):
    """It goes into summary.json as it is."""
    section = hf.export(make_trained(modern))
    assert json.loads(json.dumps(section, allow_nan=False)) == section


@pytest.mark.parametrize("objective", [Rtd(), Hybrid()], ids=["rtd", "hybrid"])
def test_an_objective_without_a_head_for_masked_tokens_exports_its_encoder(objective, modern, make_trained):
    """The folder is AutoModel's, its hidden states are ours, and card, section and foresight say the same reason."""
    whole = make_trained(replace(modern, logit_cap=9.0))  # a cap concerns the head alone
    trained = replace(whole, recipe=replace(whole.recipe, objective=objective), generator=None)
    with torch.device("meta"):
        learner = make_learner(trained.recipe, vocab=320)
    if learner.predictor is learner.model:
        trained.model.shifted = learner.model.shifted
    else:
        trained = replace(trained, generator=trained.model.__class__(trained.model.config, vocab=320, length=48))
    section = hf.export(trained)
    assert (section["kind"], section["architecture"], section["obstacles"]) == ("modernbert", "ModernBertModel", {})
    assert section["parity_max_abs"] <= 1e-4
    assert section["reason"] == hf.foreseen(learner) and section["reason"].startswith("the encoder alone: ")
    assert f"The folder holds {section['reason']}." in (trained.run.model / "README.md").read_text()
    model = transformers.AutoModel.from_pretrained(trained.run.model).eval()
    ids = torch.arange(20)[None]
    with torch.no_grad():
        ours = trained.model.encoder(ids)
        torch.testing.assert_close(model(input_ids=ids).last_hidden_state, ours, atol=1e-4, rtol=0)


@pytest.mark.parametrize("objective", [Mlm(), Script(), Hybrid(shift=False)], ids=["mlm", "script", "unshifted"])
def test_an_objective_with_a_head_for_masked_tokens_is_foreseen_to_export_whole(objective, modern, make_trained):
    """Nothing is told beforehand, and what stands in the way is when something does."""
    recipe = replace(make_trained(modern).recipe, objective=objective)
    with torch.device("meta"):
        whole = make_learner(recipe, vocab=320)
        capped = make_learner(replace(recipe, model=replace(modern, logit_cap=9.0)), vocab=320)
    assert hf.foreseen(whole) == ""
    assert hf.foreseen(capped).startswith("not modernbert: logit_cap is 9.0")


def test_the_nearest_class_alone_is_told(make_trained):
    """The one with the fewest axes in the way."""
    crammed = find("crammed")("nano", Budget.parse("10m")).model
    told = hf.reason(hf.choose(crammed)[1])
    assert told.startswith("not modernbert: position") and "not bert" not in told
    assert hf.reason({}) == ""
    izsak = replace(
        find("izsak")("nano", Budget.parse("10m")).model, first_norm=True, position="alibi", norm_bias=False
    )
    assert hf.reason(hf.choose(replace(izsak, placement="post"))[1]).startswith("not bert: position")


def test_a_wrong_mapping_is_never_published(modern, make_trained, monkeypatch):
    """Queries and keys exchanged: the export fails, the folder of before stays, nothing else is left."""
    trained = make_trained(modern)
    hf.export(trained)
    before = (trained.run.model / "model.safetensors").read_bytes()
    put = Renaming.put

    def exchanged(self, name, value):
        if name.endswith("Wqkv.weight"):
            q, k, v = value.chunk(3)
            value = torch.cat((k, v, q))
        put(self, name, value)

    monkeypatch.setattr(Renaming, "put", exchanged)
    with pytest.raises(ParityError) as error:
        hf.export(trained)
    assert error.value.exit_code == 70
    assert (trained.run.model / "model.safetensors").read_bytes() == before
    assert [path.name for path in trained.run.root.iterdir()] == ["model"]


def test_an_older_export_gives_way_as_a_whole(modern, bert, make_trained, tmp_path):
    """Any folder may be named, and a second export there leaves nothing of the first."""
    place = tmp_path / "elsewhere" / "mine"
    hf.export(make_trained(modern), place)
    section = hf.export(make_trained(bert), place)
    assert section["folder"] == str(place)
    assert json.loads((place / "config.json").read_text())["model_type"] == "bert"
    assert {path.name for path in place.iterdir()} == hf.FILES
    assert [path.name for path in place.parent.iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["thesis.tex", "config.json", "README.md"])
def test_a_folder_of_other_things_is_not_replaced(name, modern, make_trained, tmp_path):
    """Nothing is deleted that an export did not write, whatever folder is named."""
    place = tmp_path / "precious"
    place.mkdir()
    (place / name).write_text("mine")
    with pytest.raises(UsageError, match="is not an earlier export"):
        hf.export(make_trained(modern), place)
    assert [path.name for path in place.iterdir()] == [name] and (place / name).read_text() == "mine"


def test_a_file_in_the_way_is_not_replaced(modern, make_trained, tmp_path):
    """A file of the folder's name is refused too."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="is not an earlier export"):
        hf.export(make_trained(modern), tmp_path / "file")


def test_a_kill_between_the_two_renames_is_mended(modern, make_trained, monkeypatch):
    """The older export comes back before a new one is tried, so that a failure does not lose it."""
    trained = make_trained(modern)
    hf.export(trained)
    trained.run.model.rename(trained.run.root / ".model.old")

    def fail(*_, **__):
        raise ParityError("as if")

    monkeypatch.setattr(hf, "check_model", fail)
    with pytest.raises(ParityError):
        hf.export(trained)
    assert [path.name for path in trained.run.root.iterdir()] == ["model"]
    assert {path.name for path in trained.run.model.iterdir()} == hf.FILES


def test_a_run_directory_is_read_from_disk(modern, make_trained):
    """Given a path, the newest checkpoint, the recipe and the tokenizer are taken from its files."""
    trained = make_trained(modern)
    run, weights = trained.run, trained.model.state_dict()
    checkpoint.save(
        run.checkpoints,
        1,
        model={f"model.{k}": v for k, v in weights.items()},
        optimizer={},
        state={"progress": {"final": {}}},
    )
    write_json(run.recipe, to_dict(trained.recipe))
    write_json(run.summary, {"train": {"tokens": 12345}})
    trained.tokenizer.save(run.data / "tokenizer.json")
    section = hf.export(run.root)
    assert section["kind"] == "modernbert" and section["parity_max_abs"] <= 1e-4
    assert "| Tokens seen | 12,345 |" in (run.model / "README.md").read_text()


def test_weights_on_file_are_fp32_and_what_a_reader_needs(modern, make_trained):
    """config.json names the class, the special tokens and both versions' dtype."""
    trained = make_trained(modern)
    hf.export(trained)
    config = json.loads((trained.run.model / "config.json").read_text())
    specials = [config[f"{name}_token_id"] for name in ("pad", "cls", "sep", "bos", "eos")]
    assert specials == [0, 2, 3, 2, 3]
    assert config["architectures"] == ["ModernBertForMaskedLM"] and config["classifier_pooling"] == "cls"
    loaded = transformers.AutoConfig.from_pretrained(trained.run.model)
    assert loaded.dtype == torch.float32 and loaded.max_position_embeddings == 48


def test_the_model_given_is_left_as_it_was(modern, make_trained):
    """Comparing in fp32 does not change the compute dtype or mode of the model at hand."""
    trained = make_trained(modern)
    trained.model.encoder.dtype = torch.bfloat16
    trained.model.train()
    assert hf.export(trained)["parity_max_abs"] <= 1e-4
    assert trained.model.encoder.dtype == torch.bfloat16 and trained.model.training
