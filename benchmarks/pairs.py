"""Pseudo-log-likelihoods of minimal pairs against minicons: the largest difference of a sentence, and the pairs/s of both.

Both are asked in fp32 and in one process, in both variants. Without --model the model is a random BERT of a nano's shape
with a WordPiece tokenizer made of the sentences; --pairs is a JSONL file or a folder of them, such as BLiMP's. With --run
the speed of a finished run as `gpuday evaluate --pairs` asks it is added. minicons (Misra, arXiv 2203.13112) is no
dependency of the package: pip install minicons.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Record, need, parser

from gpuday.core.seeds import generator
from gpuday.data.tokenizer import train_tokenizer
from gpuday.evaluate.huggingface import subject_of_folder
from gpuday.evaluate.minimal_pairs import read_pairs
from gpuday.evaluate.pseudo_likelihood import Variant, log_likelihoods, pick_predictor, read_sentences
from gpuday.evaluate.subject import Subject, subject_of_run
from gpuday.train.trained import load_trained

TOLERANCE = 1e-4  # nats of a sentence
VARIANTS: tuple[Variant, ...] = ("original", "within_word_l2r")


def main() -> None:
    """Compare both variants; exit with 1 where a sentence differs by more than the tolerance."""
    asked = parser(__doc__)
    asked.add_argument("--pairs", type=Path, required=True, help="minimal pairs")
    asked.add_argument("--model", type=Path, help="a Hugging Face folder with a head for masked tokens")
    asked.add_argument("--run", type=Path, help="a finished run, whose speed is measured")
    asked.add_argument("--count", type=int, default=200, help="pairs in the sample [200]")
    arguments = asked.parse_args()
    need("minicons", "the comparison")
    record = Record("pairs", arguments.out)
    sentences = sample(arguments.pairs, arguments.count)
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or write_random(Path(folder) / "bert", sentences)
        for variant in VARIANTS:
            worst = max(worst, compare(record, model, sentences, variant))
    if arguments.run:
        for variant in VARIANTS:
            seconds, *_ = ours(subject_of_run(load_trained(arguments.run)), sentences, variant, fast=True)
            record.add(
                f"{arguments.run.name} {variant}", shape={}, figures={"pairs_per_second": len(sentences) / 2 / seconds}
            )
    record.table()
    if worst > TOLERANCE:
        sys.exit(f"a sentence differs by {worst:.2g} nats, more than {TOLERANCE}")


def sample(path: Path, count: int) -> list[str]:
    """The sentences of so many pairs, drawn from all paradigms."""
    pairs = read_pairs(path)
    drawn = generator(0, "benchmark/pairs").permutation(len(pairs))[:count]
    return [sentence for i in drawn for sentence in (pairs[i].good, pairs[i].bad)]


def compare(record: Record, model: Path, sentences: list[str], variant: Variant) -> float:
    """The largest difference of a sentence's sum, written down."""
    seconds, found, tokens = ours(subject_of_folder(model, model / "scores"), sentences, variant, fast=False)
    their_seconds, expected = theirs(model, sentences, variant)
    worst = float(np.abs(found - expected).max())
    pairs = len(sentences) / 2
    figures = {
        "largest_difference": worst,
        "largest_sum": float(np.abs(expected).max()),
        "pairs_per_second": pairs / seconds,
        "minicons_pairs_per_second": pairs / their_seconds,
    }
    record.add(f"{model.name} {variant}", shape={"sentences": len(sentences), "tokens": tokens}, figures=figures)
    return worst


def ours(subject: Subject, sentences: list[str], variant: Variant, *, fast: bool) -> tuple[float, Any, int]:
    """(seconds, sums [S], tokens), in the device's fast dtype or in fp32."""
    predictor = pick_predictor(subject)[0] if fast else subject.predictor()
    assert predictor is not None
    started = time.perf_counter()
    rows = read_sentences(subject, sentences)
    found = log_likelihoods(subject, predictor, rows, variant)
    return time.perf_counter() - started, found, len(rows.text)


def theirs(model: Path, sentences: list[str], variant: Variant) -> tuple[float, Any]:
    """(seconds, sums [S]) as minicons gives them, sentence by sentence."""
    from minicons import scorer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    asked = scorer.MaskedLMScorer(str(model), device)
    started = time.perf_counter()
    found = [
        # Encoded beforehand: what minicons 0.3.39 calls to encode is gone from transformers 5.
        asked.sequence_score(
            asked.tokenizer([sentence], return_tensors="pt"), reduction=lambda x: x.sum(0).item(), PLL_metric=variant
        )[0]
        for sentence in sentences
    ]
    return time.perf_counter() - started, np.array(found)


def write_random(folder: Path, sentences: list[str]) -> Path:
    """A random BERT of 4 layers of 256, so far from uniform that every token of a sentence counts."""
    import transformers

    tokenizer, _ = train_tokenizer(iter(sentences * 2), kind="wordpiece", normalizer="light", vocab=512)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.tokenizer,
        pad_token="<pad>", unk_token="<unk>", cls_token="<cls>", sep_token="<sep>", mask_token="<mask>",
        model_max_length=128,
    )  # fmt: skip
    config = transformers.BertConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=1024,
        initializer_range=0.1,
        pad_token_id=tokenizer.pad_id,
    )
    torch.manual_seed(0)
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
