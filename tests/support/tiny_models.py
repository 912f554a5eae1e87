"""Hugging Face folders of random encoders with a tokenizer of a few words, built from their configs: no network."""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SIZES: dict[str, int] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 320,
}
WORDS = [
    "the",
    "quick",
    "brown",
    "zebra",
    "jump",
    "##s",
    "over",
    "lazy",
    "river",
    "a",
    "mango",
    "tree",
    "stand",
    "##ing",
    "behind",
    "house",
    ".",
    ",",
    "'",
    "!",
    "it",
    "is",
    "<",
]
PLACES = 64

# Family: (values of its config, kind of its tokenizer).
FAMILIES: dict[str, tuple[dict[str, Any], str]] = {
    "bert": ({"max_position_embeddings": PLACES}, "wordpiece"),
    "roberta": ({"max_position_embeddings": PLACES + 2, "type_vocab_size": 1}, "bytes"),
    "modernbert": ({"max_position_embeddings": PLACES, "pad_token_id": 1}, "bytes"),
    "deberta-v2": (
        {
            "max_position_embeddings": PLACES,
            "type_vocab_size": 0,
            "relative_attention": True,
            "position_biased_input": False,
            "pos_att_type": ["p2c", "c2p"],
        },
        "wordpiece",
    ),
    "distilbert": (
        {"max_position_embeddings": PLACES, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
        "wordpiece",
    ),
    "electra": ({"max_position_embeddings": PLACES, "embedding_size": 16}, "wordpiece"),
    "mpnet": ({"max_position_embeddings": PLACES + 2}, "bytes"),
    "albert": ({"max_position_embeddings": PLACES, "embedding_size": 16, "pad_token_id": 0}, "wordpiece"),
}


def write_model(folder: Path, family: str, *, auto: Any = transformers.AutoModelForMaskedLM, seed: int = 0) -> Path:
    """A folder as `save_pretrained` writes it, with weights of this seed."""
    values, kind = FAMILIES[family]
    config = transformers.AutoConfig.for_model(family, **{**SIZES, **values})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        auto.from_config(config).save_pretrained(folder)
    make_tokenizer(kind).save_pretrained(folder)
    return folder


def make_tokenizer(kind: str, **options: Any) -> Any:
    """A fast tokenizer as BERT has it (`wordpiece`, with token types), or as RoBERTa has it (`bytes`)."""
    build = {"wordpiece": _wordpiece, "bytes": _bytes}[kind]
    return build(**{"model_max_length": 512, **options})


def _wordpiece(**options: Any) -> Any:
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [c for letter in "abcdefghijklmnopqrstuvwxyz" for c in (letter, f"##{letter}")]
    vocab = {token: i for i, token in enumerate(dict.fromkeys([*specials, *WORDS, *letters]))}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.add_special_tokens(specials)
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), specials, strict=True)),
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **options,
    )


def _bytes(**options: Any) -> Any:
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    start = [*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("z", "e"), ("i", "s"), ("Ġ", "r")]
    vocab = {token: i for i, token in enumerate([*start, *("".join(pair) for pair in merges)])}
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.add_special_tokens(specials)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    roles = ("cls_token", "pad_token", "sep_token", "unk_token", "mask_token")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **dict(zip(roles, specials, strict=True)), **options
    )
