"""The tokenizer files of an exported folder, and the proof that Transformers reads from them the ids that we use."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, processors

from gpuday.core.rundir import write_atomic, write_json
from gpuday.data.tokenizer import TextTokenizer
from gpuday.evaluate.model_folder import quiet
from gpuday.export.parity import ParityError

SAMPLES: tuple[tuple[str, str | None], ...] = (
    ("The quick brown fox jumps over the lazy dog.", None),
    ("", None),
    ("  Two  spaces,\ttabs\nand lines\r\n ", None),
    ("Café naïve cafe\u0301 — “quotes” … ½ № 東京 Ελλάδα 😀", None),
    ("def f(x: int) -> int:\n    return x ** 2  # don't ``quote''", None),
    ("Is it raining?", "No, the sun is out."),
    ("A short one.", "A much longer text, which goes on and on until somebody cuts it off at last."),
    ("", "3.14159 and 1,000,000"),  # the other way round Transformers takes an empty second text for none
)
UNCUT, CUT = 512, 12  # tokens: enough for any sample, and too few for most


def special_tokens(tokenizer: TextTokenizer) -> dict[str, str]:
    """Transformers' names of the special tokens, and how this tokenizer spells them: a foreign file may say `[PAD]`."""
    ids = {
        "pad_token": tokenizer.pad_id,
        "unk_token": tokenizer.unk_id,
        "cls_token": tokenizer.cls_id,
        "sep_token": tokenizer.sep_id,
        "mask_token": tokenizer.mask_id,
    }
    return {role: str(tokenizer.tokenizer.id_to_token(i)) for role, i in ids.items()}


def write_tokenizer(tokenizer: TextTokenizer, folder: Path, *, length: int) -> None:
    """tokenizer.json, tokenizer_config.json and special_tokens_map.json."""
    specials = special_tokens(tokenizer)
    cls, sep = specials["cls_token"], specials["sep_token"]
    copy = Tokenizer.from_str(tokenizer.tokenizer.to_str())
    # A foreign file may frame its texts otherwise; evaluation frames them like this, all of type 0.
    copy.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:0 {sep}:0",
        special_tokens=[(cls, tokenizer.cls_id), (sep, tokenizer.sep_id)],
    )
    plain = json.loads(copy.to_str())
    for token in plain["added_tokens"]:
        if token["id"] == tokenizer.mask_id:
            token["lstrip"] = True  # the space before a mask belongs to the word it stands for
    write_atomic(folder / "tokenizer.json", json.dumps(plain, ensure_ascii=False).encode())
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",  # a name that both major versions know
            **specials,
            "model_max_length": length,
            "model_input_names": ["input_ids", "attention_mask"],  # our rows have no token types
            "padding_side": "right",
            "truncation_side": "right",
            "clean_up_tokenization_spaces": False,
        },
    )
    write_json(folder / "special_tokens_map.json", specials)


def check_tokenizer(tokenizer: TextTokenizer, folder: Path) -> None:
    """Load the folder by AutoTokenizer and compare its ids with ours on texts and pairs, whole and cut.

    Raises ParityError on the first difference in ids, in the names of the inputs or in the special tokens.
    """
    import transformers

    with quiet():
        theirs: Any = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    for a, b in SAMPLES:
        for most in (UNCUT, CUT):
            texts = (a,) if b is None else (a, b)
            given = theirs(*texts, truncation=True, max_length=most)
            if set(given) != {"input_ids", "attention_mask"}:
                raise ParityError(f"the exported tokenizer gives {sorted(given)}", where=str(folder))
            _same(list(given["input_ids"]), tokenizer.encode_pair(a, b, most), f"the ids of {texts}", folder)
    for role, token in special_tokens(tokenizer).items():
        _same(getattr(theirs, f"{role}_id"), tokenizer.tokenizer.token_to_id(token), f"the id of {role}", folder)
    # Here alone the two differ on purpose: training reads a written `<mask>` as text, a user of the model means it.
    masked = theirs(f"a {theirs.mask_token} b")["input_ids"]
    _same(masked.count(tokenizer.mask_id), 1, "the number of masks in a text with one", folder)


def _same(theirs: object, ours: object, what: str, folder: Path) -> None:
    if theirs != ours:
        raise ParityError(
            f"the exported tokenizer gives {theirs} as {what}, ours {ours}",
            where=str(folder),
            fix="report this with the versions of transformers and tokenizers",
        )
