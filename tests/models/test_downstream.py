"""Heads on any body: the paper's classifier and those of BERT and ModernBERT, for rows and for tokens."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    ModernBertConfig,
    ModernBertForQuestionAnswering,
    ModernBertForSequenceClassification,
    ModernBertForTokenClassification,
)

from gpuday.models.block import Block
from gpuday.models.downstream import NORM_EPS, Classifier, Spans, Tagger, mean_of_tokens
from gpuday.models.encoder import Encoder
from gpuday.models.shapes.funnel import Funnel
from gpuday.models.shapes.plain import Plain

VOCAB, LENGTH, WIDTH = 100, 16, 32
IDS = torch.randint(0, VOCAB, (3, LENGTH), generator=torch.Generator().manual_seed(0))
MASK = torch.ones_like(IDS, dtype=torch.bool)
SHAPE = {"vocab_size": VOCAB, "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2}


class Given(nn.Module):
    """A body that gives the hidden states it was made with."""

    def __init__(self, hidden):
        super().__init__()
        self.hidden = hidden

    def forward(self, ids, mask, types=None):
        return self.hidden


@pytest.fixture
def hidden():
    return torch.randn(3, LENGTH, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("width", "hidden_width"), [(768, 1024), (1024, 1344), (512, 704), (256, 320), (32, 64)])
def test_the_classifiers_hidden_width_is_the_papers_at_base(width, hidden_width):
    """1024 at a width of 768, in proportion elsewhere, a multiple of 64; BERT's and ModernBERT's have the model's width."""
    with torch.device("meta"):
        paper, bert = (Classifier(nn.Identity(), width, 3, head=head) for head in ("paper", "bert"))
    assert tuple(paper.dense.weight.shape) == (hidden_width, width)
    assert tuple(paper.output.weight.shape) == (3, hidden_width)
    assert tuple(bert.dense.weight.shape) == (width, width)


def test_the_classifier_reads_position_0_alone(make_config, scatter):
    """tanh of a dense layer on the first hidden state, then a linear layer, in fp32 whatever the encoder computes in."""
    encoder = Encoder(make_config(), vocab=VOCAB, length=LENGTH)
    classifier = scatter(Classifier(encoder, encoder.config.width, 3))
    first = encoder(IDS, MASK)[:, 0]
    pooled = torch.tanh(F.linear(first, classifier.dense.weight, classifier.dense.bias))
    expected = F.linear(pooled, classifier.output.weight, classifier.output.bias)
    torch.testing.assert_close(classifier(IDS, MASK), expected, atol=1e-5, rtol=1e-5)
    encoder.dtype = torch.bfloat16
    assert classifier(IDS, MASK).dtype == torch.float32
    torch.testing.assert_close(classifier(IDS, MASK), expected, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("shape", [Plain(layers=2), Funnel(stages=(1, 1), decoder=0)], ids=["plain", "funnel"])
def test_an_encoder_is_asked_for_position_0_alone(shape, make_config, scatter):
    """Scores and every gradient are those of the whole encoding; the last layer of a shape that ends whole sees one position of a row."""
    encoder = Encoder(make_config(shape=shape), vocab=VOCAB, length=LENGTH)
    classifier = scatter(Classifier(encoder, encoder.config.width, 3))
    mask = torch.arange(LENGTH) < torch.tensor([[LENGTH], [5], [9]])

    def whole(ids, mask):
        pooled = torch.tanh(classifier.dense(encoder(ids, mask)[:, 0]))
        return classifier.output(pooled)

    def with_gradients(scores):
        classifier.zero_grad()
        scores.pow(2).sum().backward()
        return [scores, *(p.grad.clone() for p in classifier.parameters() if p.grad is not None)]

    torch.testing.assert_close(
        with_gradients(classifier(IDS, mask)), with_gradients(whole(IDS, mask)), atol=1e-5, rtol=1e-5
    )
    seen = []
    blocks = [m for m in encoder.modules() if isinstance(m, Block)]
    blocks[-1].feedforward.register_forward_hook(lambda _m, given, _out: seen.append(given[0].shape[1]))
    classifier(IDS, mask)
    assert seen == [1 if shape.ends_whole else LENGTH // 2]


def test_the_classifier_does_not_see_padding(make_config, scatter):
    """The same row with more padding gets the same scores."""
    encoder = Encoder(make_config(), vocab=VOCAB, length=LENGTH)
    classifier = scatter(Classifier(encoder, encoder.config.width, 2))
    mask = (torch.arange(LENGTH) < 6).expand(3, -1)
    short = classifier(IDS[:, :6], mask[:, :6])
    torch.testing.assert_close(classifier(torch.where(mask, IDS, 9), mask), short, atol=1e-5, rtol=1e-5)


def test_the_mean_is_over_tokens_alone():
    """A plain loop over the tokens of each row, special ones among them; whatever stands behind them does not count."""
    hidden = torch.randn(3, LENGTH, WIDTH, generator=torch.Generator().manual_seed(2))
    lengths = [LENGTH, 1, 6]
    mask = torch.arange(LENGTH) < torch.tensor(lengths)[:, None]
    expected = torch.stack([sum(hidden[i, j] for j in range(n)) / n for i, n in enumerate(lengths)])
    torch.testing.assert_close(mean_of_tokens(hidden.masked_fill(~mask[..., None], torch.nan), mask), expected)
    low = hidden.bfloat16()
    expected = torch.stack([sum(low[i, j].double() for j in range(n)) / n for i, n in enumerate(lengths)])
    assert torch.equal(mean_of_tokens(low, mask), expected.bfloat16())  # no step of the sum was rounded to bf16
    assert not mean_of_tokens(hidden, torch.zeros_like(mask)).any()


def test_a_pooled_classifier_is_that_of_transformers():
    """ModernBERT's class with the mean, from the ids of padded rows to the logits; position 0 gives others."""
    config = ModernBertConfig(**SHAPE, num_labels=3, pad_token_id=0, classifier_pooling="mean", intermediate_size=64)
    theirs = ModernBertForSequenceClassification(config).eval()

    class Body(nn.Module):
        def forward(self, ids, mask, types=None):
            return theirs.model(input_ids=ids, attention_mask=mask.long())[0]

    ours = Classifier(Body(), WIDTH, 3, head="modernbert", pooling="mean").eval()
    copied(ours.dense, theirs.head.dense)
    copied(ours.norm, theirs.head.norm)
    copied(ours.output, theirs.classifier)
    mask = torch.arange(LENGTH) < torch.tensor([[LENGTH], [3], [9]])
    expected = theirs(input_ids=IDS, attention_mask=mask.long()).logits
    torch.testing.assert_close(ours(IDS, mask), expected, atol=1e-5, rtol=1e-5)
    ours.pooling = "first"
    assert (ours(IDS, mask) - expected).abs().max() > 0.1


def test_a_fresh_classifier_is_near_chance_and_its_dropout_acts_in_training(make_config, scatter):
    """New layers are normal with the given deviation, biases zero, the encoder untouched."""
    encoder = scatter(Encoder(make_config(width=64), vocab=VOCAB, length=LENGTH))
    before = {name: p.clone() for name, p in encoder.named_parameters()}
    torch.manual_seed(0)
    classifier = Classifier(encoder, 64, 4, dropout=0.5)
    assert classifier.dense.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert (classifier.dense.bias.abs().max(), classifier.output.bias.abs().max()) == (0.0, 0.0)
    assert all(torch.equal(p, before[name]) for name, p in encoder.named_parameters())
    classifier.train()
    assert not torch.equal(classifier(IDS, MASK), classifier(IDS, MASK))
    classifier.eval()
    assert torch.equal(classifier(IDS, MASK), classifier(IDS, MASK))


def test_berts_heads_are_those_of_transformers(hidden):
    """The pooler with its classifier, the tagger and the spans, given the same weights and hidden states."""
    config = BertConfig(**SHAPE, num_labels=3, intermediate_size=64)
    theirs = BertForSequenceClassification(config).eval()
    ours = Classifier(Given(hidden), WIDTH, 3, head="bert").eval()
    copied(ours.dense, theirs.bert.pooler.dense)
    copied(ours.output, theirs.classifier)
    torch.testing.assert_close(ours(IDS, MASK), theirs.classifier(theirs.bert.pooler(hidden)))
    tags, spans = (
        BertForTokenClassification(config),
        BertForQuestionAnswering(BertConfig(**SHAPE, intermediate_size=64)),
    )
    for head, layer in (
        (Tagger(Given(hidden), WIDTH, 3, head="bert").eval(), tags.classifier),
        (Spans(Given(hidden), WIDTH, head="bert").eval(), spans.qa_outputs),
    ):
        copied(head.output, layer)
        torch.testing.assert_close(head(IDS, MASK), layer(hidden))


def test_modernberts_heads_are_those_of_transformers(hidden):
    """Dense without bias, GELU, norm and classifier, on position 0 and on every token."""
    config = ModernBertConfig(**SHAPE, num_labels=3, intermediate_size=64, pad_token_id=0)
    assert config.norm_eps == NORM_EPS
    for model, head, place in (
        (ModernBertForSequenceClassification(config), Classifier(Given(hidden), WIDTH, 3, head="modernbert"), 0),
        (ModernBertForTokenClassification(config), Tagger(Given(hidden), WIDTH, 3, head="modernbert"), slice(None)),
        (
            ModernBertForQuestionAnswering(ModernBertConfig(**SHAPE, num_labels=2, pad_token_id=0)),
            Spans(Given(hidden), WIDTH, head="modernbert"),
            slice(None),
        ),
    ):
        copied(head.dense, model.head.dense)
        copied(head.norm, model.head.norm)
        copied(head.output, model.classifier)
        expected = model.eval().classifier(model.head(hidden[:, place]))
        torch.testing.assert_close(head.eval()(IDS, MASK), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def copied(ours, theirs):
    """Random weights in theirs, and the same in ours, which has no parameter that theirs lacks."""
    assert (ours.bias is None) == (theirs.bias is None)
    for name, parameter in theirs.named_parameters():
        ours.get_parameter(name).copy_(parameter.normal_(std=0.5))
