"""The same architecture with fresh weights stands in the table as a subject of its own."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gpuday.evaluate.huggingface import subject_of_folder
from gpuday.evaluate.subject import Subject, subject_of_run
from gpuday.evaluate.untrained import untrained_folder, untrained_run
from gpuday.models.init import initialise
from gpuday.train.trained import Trained


def answer(subject: Subject) -> torch.Tensor:
    ids = torch.arange(5, 13)[None]
    with torch.no_grad():
        hidden: torch.Tensor = subject.body(dropout=0.0, dtype=torch.float32).eval()(
            ids, torch.ones_like(ids).bool(), None
        )
    return hidden


def test_a_run_is_as_its_training_began(trained: Trained) -> None:
    """Its initial weights, whatever became of them; the run's own subject is as it was."""
    before = answer(subject_of_run(trained))
    initialise(trained.model, trained.recipe.model, 7)  # stands for a training
    subject = subject_of_run(trained)
    after = answer(subject)
    fresh = untrained_run(subject, trained)
    torch.testing.assert_close(answer(fresh), before, rtol=0, atol=0)
    torch.testing.assert_close(answer(subject), after, rtol=0, atol=0)
    assert not torch.equal(after, before)


def test_a_subject_with_fresh_weights_is_told_apart(trained: Trained) -> None:
    """By name, hash and folder; it predicts no masked tokens, since no head of its was trained."""
    subject = subject_of_run(trained)
    fresh = untrained_run(subject, trained)
    assert fresh.name == "run, untrained" and fresh.model_hash != subject.model_hash
    assert fresh.scores == trained.run.root / "untrained"
    assert fresh.predictor() is None and fresh.no_predictor


def test_a_folder_gets_the_weights_that_its_class_draws(tmp_path: Path, bert_folder: Path) -> None:
    """The same ones each time, other ones than the folder's; torch's generator is as it was."""
    subject = subject_of_folder(bert_folder, tmp_path / "scores")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fresh = untrained_folder(subject)
    assert torch.equal(torch.rand(3), expected)
    torch.testing.assert_close(answer(fresh), answer(untrained_folder(subject)), rtol=0, atol=0)
    assert not torch.allclose(answer(fresh), answer(subject), atol=1e-3)
    assert fresh.scores == tmp_path / "untrained"
    assert untrained_folder(replace(subject, model_hash="another tokenizer")).model_hash != fresh.model_hash


@pytest.fixture
def bert_folder(tmp_path: Path) -> Path:
    """A BERT of toy size with its tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrst"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), words, strict=False))
    folder = tmp_path / "bert"
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=32, **special).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertForMaskedLM(BertConfig(vocab_size=len(words), max_position_embeddings=32, **sizes)).save_pretrained(folder)
    return folder
