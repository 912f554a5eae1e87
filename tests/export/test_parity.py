import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from gpuday.export.bert import BERT
from gpuday.export.modernbert import MODERNBERT
from gpuday.export.native import Specials
from gpuday.export.parity import ParityError, check_model, padded_batch


@pytest.fixture
def model(modern, make_model):
    return make_model(modern)


@pytest.fixture
def folder(model, tmp_path):
    config = MODERNBERT.config(model, Specials(pad=0, cls=2, sep=3), version=transformers.__version__)
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(MODERNBERT.weights(model), tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


def edit_weights(folder, edit):
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_the_batch_holds_long_short_and_padded_rows():
    """A full row, a row of one token, rows between; padding is id 0 and masked."""
    ids, mask = padded_batch(320, 48)
    assert mask.sum(dim=1).tolist() == [48, 1, 24, 2, 16]
    assert not ids[~mask].any() and ids.max() < 320


def test_a_long_row_leaves_room_for_few():
    """Logits of the whole batch are held at once, so that long rows come in twos."""
    assert padded_batch(320, 4096)[1].sum(dim=1).tolist() == [4096, 1]


def test_an_equal_folder_passes_and_leaves_the_random_stream(model, folder):
    """The largest difference is that of rounding, and drawing a new head does not advance the caller's generator."""
    torch.manual_seed(7)
    found = check_model(model, folder)
    drawn = torch.rand(1)
    torch.manual_seed(7)
    assert found["rows"] == 5 and 0 < found["parity_max_abs"] < 1e-4
    assert torch.equal(torch.rand(1), drawn)


def test_one_changed_weight_is_found(model, folder):
    """A single entry of one of the last layers' norms, moved by a tenth."""
    edit_weights(folder, lambda weights: weights["model.layers.3.mlp_norm.weight"][:1].add_(0.1))
    with pytest.raises(ParityError, match="differ from the trained model's"):
        check_model(model, folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"local_attention": 18},
        {"layer_types": ["full_attention"] * 4},
        {"rope_parameters": None, "global_rope_theta": 10000.0},
        {"hidden_activation": "gelu_pytorch_tanh"},
        {"norm_eps": 1e-3},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_wrong_setting_is_found(changes, model, folder):
    """The batch is long enough to see windows, and sharp enough to tell one GELU from another."""
    edit_config(folder, **changes)
    with pytest.raises(ParityError):
        check_model(model, folder)


def test_a_missing_weight_is_named(model, folder):
    """Transformers would draw it at random and say so in passing."""
    edit_weights(folder, lambda weights: weights.pop("model.layers.2.attn.Wo.weight"))
    with pytest.raises(ParityError, match=r"missing \['model\.layers\.2\.attn\.Wo\.weight'\]"):
        check_model(model, folder)


def test_an_unknown_weight_is_named(model, folder):
    """A weight that the native class does not know would be dropped."""
    edit_weights(folder, lambda weights: weights.update({"model.extra": torch.ones(1)}))
    with pytest.raises(ParityError, match=r"unknown \['model\.extra'\]"):
        check_model(model, folder)


def test_nan_anywhere_is_refused(model, folder):
    """NaN in the embedding of padding alone, which a comparison at real tokens might not see."""
    edit_weights(folder, lambda weights: weights["model.embeddings.tok_embeddings.weight"][0].fill_(float("nan")))
    with pytest.raises(ParityError, match="not finite"):
        check_model(model, folder)


def test_small_logits_are_held_to_a_smaller_difference(modern, make_model, tmp_path):
    """A model whose logits are a thousandth cannot hide a fault of the thousandth part."""
    model = make_model(modern)
    with torch.no_grad():
        model.head.norm.weight.mul_(1e-4)
    config = MODERNBERT.config(model, Specials(pad=0, cls=2, sep=3), version=transformers.__version__)
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(MODERNBERT.weights(model), tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert check_model(model, tmp_path)["parity_max_abs"] < 1e-7
    edit_weights(tmp_path, lambda weights: weights["model.layers.3.mlp_norm.weight"].mul_(1.5))
    with pytest.raises(ParityError):
        check_model(model, tmp_path)


def test_a_head_that_predicts_from_the_position_before_does_not_pass(model, folder):
    """Its weights are those of the folder, and every prediction stands one position further."""
    model.shifted = True
    with pytest.raises(ParityError, match="logits differ"):
        check_model(model, folder)


@pytest.mark.parametrize("kind", ["modern", "bert"])
def test_an_encoder_alone_is_compared_by_its_hidden_states(kind, request, make_model, tmp_path):
    """AutoModel gives ours, a classifier loads around it, and one changed weight is found."""
    native = {"modern": MODERNBERT, "bert": BERT}[kind]
    model = make_model(request.getfixturevalue(kind))
    config = native.config(model, Specials(pad=0, cls=2, sep=3), version=transformers.__version__, head=False)
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(native.weights(model, head=False), tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert config["architectures"] == [native.encoder]
    assert check_model(model, tmp_path, head=False)["parity_max_abs"] < 1e-4
    last = {"modern": "final_norm.weight", "bert": "encoder.layer.2.output.LayerNorm.weight"}[kind]
    edit_weights(tmp_path, lambda weights: weights[last][:1].add_(0.1))
    with pytest.raises(ParityError, match="hidden states differ"):
        check_model(model, tmp_path, head=False)
