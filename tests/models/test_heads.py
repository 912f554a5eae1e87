"""The head for masked tokens: predictions at chosen positions only."""

import pytest
import torch
import torch.nn.functional as F

from gpuday.core.errors import UsageError
from gpuday.models.heads import MaskedLM

VOCAB, LENGTH = 100, 16
IDS = torch.randint(0, VOCAB, (3, LENGTH), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def make_model(make_config, scatter):
    return lambda **changes: scatter(MaskedLM(make_config(**changes), vocab=VOCAB, length=LENGTH))


def test_the_full_head_is_dense_gelu_norm_decoder(make_model):
    """All of its parts and biases, written out; the decoder is the embedding table."""
    model = make_model(head_transform=True, head_bias=True, decoder_bias=True, norm_bias=True)
    head, hidden = model.head, model.encoder(IDS).flatten(0, 1)
    x = F.gelu(hidden @ head.dense.weight.T + head.dense.bias)
    x = F.layer_norm(x, (32,), head.norm.weight, head.norm.bias, model.config.norm_eps)
    expected = x @ model.encoder.embedding.weight.T + head.bias
    torch.testing.assert_close(model(IDS), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shifted", [False, True])
def test_logits_at_places_are_those_of_the_whole_row(shifted, make_model):
    """Of two places in each row, the first position of one among them, which predicts itself where the others are shifted."""
    model = make_model()
    model.shifted = shifted
    places = torch.tensor([[0, 5], [1, 15], [7, 7]])
    expected = model(IDS).view(3, LENGTH, VOCAB)[torch.arange(3)[:, None], places]
    torch.testing.assert_close(model.at(IDS, places), expected, atol=1e-5, rtol=1e-5)


def test_a_head_without_transform_is_the_table_alone(make_model):
    """The crammed head has no parameters of its own."""
    model = make_model(head_transform=False)
    assert list(model.head.parameters()) == []
    expected = model.encoder(IDS).flatten(0, 1) @ model.encoder.embedding.weight.T
    torch.testing.assert_close(model(IDS), expected, atol=1e-4, rtol=1e-4)


def test_a_head_without_activation_is_a_bare_matrix(make_model):
    """As in the first version of the crammed recipe: the decoder's product with one matrix more, and no norm."""
    model = make_model(head_activation=False)
    assert [name for name, _ in model.head.named_parameters()] == ["dense.weight"]
    expected = model.encoder(IDS).flatten(0, 1) @ model.head.dense.weight.T @ model.encoder.embedding.weight.T
    torch.testing.assert_close(model(IDS), expected, atol=1e-4, rtol=1e-4)


def test_an_activation_that_is_left_out_of_nothing_is_refused(make_config):
    """Without a head transform there is none."""
    with pytest.raises(UsageError, match="whose activation could be left out"):
        make_config(head_transform=False, head_activation=False)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("transform", [True, False])
def test_a_factorised_head_goes_back_to_the_tables_width(tied, transform, make_model):
    """hidden [P, 32] to features [P, 8] to logits; the encoder goes the other way, from a normed row of 8."""
    model = make_model(embedding_width=8, tied=tied, head_transform=transform, position="none")
    head, encoder = model.head, model.encoder
    x = F.layer_norm(encoder.embedding.weight[IDS], (8,), encoder.embedding_norm.weight, None, 1e-5)
    seen = []
    encoder.stack.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    hidden = encoder(IDS).flatten(0, 1)
    torch.testing.assert_close(seen[0], x @ encoder.projection.weight.T)
    features = hidden @ head.dense.weight.T
    if transform:
        features = F.layer_norm(F.gelu(features), (8,), head.norm.weight, None, 1e-5)
    table = encoder.embedding.weight if tied else head.decoder
    assert table.shape == (VOCAB, 8)
    torch.testing.assert_close(model(IDS), features @ table.T, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.features(encoder(IDS)), features, atol=1e-4, rtol=1e-4)
    assert model.decoder().table is table


def test_an_untied_head_has_a_decoder_of_its_own(make_model):
    """One more matrix of vocabulary by width, and the one that is used."""
    tied, untied = make_model(), make_model(tied=False)
    assert set(untied.state_dict()) - set(tied.state_dict()) == {"head.decoder"}
    before = untied(IDS)
    with torch.no_grad():
        untied.head.decoder.mul_(2.0)
    torch.testing.assert_close(untied(IDS), 2.0 * before)


def test_a_tied_table_learns_from_both_ends(make_model):
    """An id that is not in the input gets a gradient through the decoder."""
    model = make_model()
    model(torch.zeros(1, 4, dtype=torch.int64)).square().sum().backward()
    assert (model.encoder.embedding.weight.grad.abs().sum(1) > 0).all()


def test_predictions_at_positions_are_rows_of_all_predictions(make_model):
    """Positions count through the flattened batch, in any order; None stands for all."""
    model = make_model()
    everything = model(IDS)
    assert everything.shape == (3 * LENGTH, VOCAB)
    positions = torch.tensor([0, 17, 47, 5])
    torch.testing.assert_close(model(IDS, positions), everything[positions], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(everything[17], model(IDS[1:2])[1], atol=1e-5, rtol=1e-5)


def test_the_mask_reaches_the_encoder(make_model):
    """Padding has no influence on predictions at real positions."""
    model = make_model()
    mask = torch.arange(LENGTH) < torch.tensor([[16], [9], [3]])
    other = torch.where(mask, IDS, 7)
    real = mask.flatten()
    assert torch.equal(model(IDS, mask=mask)[real], model(other, mask=mask)[real])


def test_logits_have_the_compute_dtype(make_model):
    """bf16 hidden states give bf16 logits: they never exist whole in fp32 here; biases do not lift them."""
    model = make_model(head_bias=True, decoder_bias=True)
    model.encoder.dtype = torch.bfloat16
    assert model(IDS).dtype == torch.bfloat16


def test_capped_logits_are_a_scaled_tangent(make_model):
    """cap * tanh(z / cap), in predictions and in what the decoder says of itself."""
    plain, capped = make_model(), make_model(logit_cap=2.0)
    torch.testing.assert_close(capped(IDS), 2.0 * torch.tanh(plain(IDS) / 2.0), atol=1e-5, rtol=1e-5)
    assert (plain.decoder().cap, capped.decoder().cap) == (0.0, 2.0)


def test_the_decoder_makes_logits_of_features(make_model):
    """Table, bias and cap, from the features of some positions."""
    model = make_model(logit_cap=5.0, decoder_bias=True)
    hidden, positions = model.encoder(IDS), torch.tensor([3, 20])
    table, bias, cap = model.decoder()
    logits = model.features(hidden, positions) @ table.T + bias
    torch.testing.assert_close(cap * torch.tanh(logits / cap), model.predict(hidden, positions), atol=1e-5, rtol=1e-5)


def test_a_shifted_model_answers_from_the_place_before(make_model):
    """Also at all positions; a row's first one, which has none before it, from its own and not from another row's end."""
    plain, shifted = make_model(), make_model()
    shifted.shifted = True
    before = plain(IDS).view(3, LENGTH, VOCAB)
    torch.testing.assert_close(shifted(IDS).view(3, LENGTH, VOCAB)[:, 1:], before[:, :-1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(shifted(IDS).view(3, LENGTH, VOCAB)[:, 0], before[:, 0], atol=1e-5, rtol=1e-5)
    positions = torch.tensor([16, 17, 47])
    torch.testing.assert_close(shifted(IDS, positions), shifted(IDS)[positions], atol=1e-5, rtol=1e-5)
