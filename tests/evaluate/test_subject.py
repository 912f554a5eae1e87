from dataclasses import replace

import pytest
import torch

from gpuday.core import config
from gpuday.evaluate.subject import hash_tensors, hash_weights, subject_of_run
from gpuday.train.trained import Trained


def batch(trained: Trained) -> tuple[torch.Tensor, torch.Tensor]:
    """ids [2, 8] and mask [2, 8] with a row of eight tokens and one of five."""
    ids = torch.randint(5, trained.model.vocab, (2, 8), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(8) < torch.tensor([[8], [5]])
    return ids.masked_fill(~mask, trained.tokenizer.pad_id), mask


def test_a_run_s_subject_is_the_run(trained: Trained) -> None:
    """Name, sizes, tokenizer, fingerprint and folder of scores are the run's."""
    subject = subject_of_run(trained)
    assert (subject.name, subject.kind, subject.scores) == ("run", "run", trained.run.scores)
    assert (subject.width, subject.length) == (32, trained.model.length)
    assert subject.recipe_fingerprint == config.fingerprint(trained.recipe)
    assert subject.model_hash == hash_weights(trained.model)
    assert (subject.reader.pad_id, subject.reader.mask_id) == (trained.tokenizer.pad_id, trained.tokenizer.mask_id)


def test_a_body_is_a_fresh_copy_of_the_encoder(trained: Trained) -> None:
    """Same numbers in fp32, dropout as asked, the dtype that is asked over fp32 weights; training it leaves the run alone."""
    subject, (ids, mask) = subject_of_run(trained), batch(trained)
    before = hash_weights(trained.model)
    body = subject.body(dropout=0.25, dtype=torch.float32)
    assert {m.p for m in body.modules() if isinstance(m, torch.nn.Dropout)} == {0.25}
    assert torch.equal(body.eval()(ids, mask, None), trained.model.encoder(ids, mask))
    low = subject.body(dropout=0.0, dtype=torch.bfloat16)
    assert low(ids, mask, None).dtype == torch.bfloat16
    assert {p.dtype for p in low.parameters()} == {torch.float32}
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.zero_()
    assert hash_weights(trained.model) == before == subject.model_hash


def test_the_predictor_is_the_run_s_and_computes_in_the_dtype_asked(trained: Trained) -> None:
    """fp32 logits at the asked positions of the flattened batch; asking in bf16 does not change the run's own dtype."""
    subject, (ids, mask) = subject_of_run(trained), batch(trained)
    positions = torch.tensor([1, 9, 12])
    predictor, low = subject.predictor(), subject.predictor(torch.bfloat16)
    assert predictor is not None
    assert low is not None
    with torch.inference_mode():
        expected = trained.model(ids, positions, mask)
    assert torch.equal(predictor.logits(ids, mask, positions), expected)
    places, whole = torch.tensor([1, 0]), torch.ones_like(mask)
    at = predictor.logits(ids, whole, places + torch.tensor([0, ids.shape[1]]))
    torch.testing.assert_close(predictor.logits_at(ids, places), at, atol=1e-5, rtol=1e-5)
    assert not torch.equal(low.logits(ids, mask, positions), expected)
    assert low.logits(ids, mask, positions).dtype == torch.float32
    assert low.logits(ids, mask, positions) == pytest.approx(expected, abs=0.1)
    assert trained.model.encoder.dtype == torch.float32


def test_a_generator_predicts_where_the_model_does_not(trained: Trained) -> None:
    """The predictor of a run whose generator predicts masked tokens is the generator."""
    (ids, mask), positions = batch(trained), torch.tensor([2])
    other = type(trained.model)(trained.model.config, vocab=trained.model.vocab, length=trained.model.length).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.fill_(0.01)
    predictor = subject_of_run(replace(trained, generator=other)).predictor()
    assert predictor is not None
    with torch.inference_mode():
        assert torch.equal(predictor.logits(ids, mask, positions), other(ids, positions, mask))


def test_hashes_know_names_shapes_dtypes_and_every_bit() -> None:
    """The order in which tensors come does not matter; anything else does."""
    one = torch.arange(6.0)
    known = hash_tensors([("a", one), ("b", one[:1])])
    assert known == hash_tensors([("b", one[:1]), ("a", one.clone())])
    changed = one.clone()
    changed[5] += 2e-7 * 5
    for other in (one.view(2, 3), one.double(), one.bfloat16(), changed):
        assert hash_tensors([("a", other), ("b", one[:1])]) != known
    assert hash_tensors([("c", one), ("b", one[:1])]) != known
    assert len(hash_tensors([("scalar", torch.tensor(1.0))])) == 32
