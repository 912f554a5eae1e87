"""Normalisers: what happens to text before it is cut into tokens. Stored inside tokenizer.json."""

from typing import Literal

import xxhash
from tokenizers import Regex, Tokenizer, normalizers

Normalizer = Literal["crammed", "light"]


def build_normalizer(name: Normalizer) -> normalizers.Normalizer:
    """`light`: NFC, every run of white space is one space; case is kept.

    `crammed`: quotes written as two characters become ", accents and case are stripped, runs of white space are one
    space, and what is then outside ASCII is deleted (Geiping & Goldstein, arXiv:2212.14034, section 4.1).
    """
    space = normalizers.Replace(Regex(r"\s{2,}|[^\S ]"), " ")  # leaves single spaces alone: a third faster than \s+
    if name == "light":
        return normalizers.Sequence([normalizers.NFC(), space])
    return normalizers.Sequence(
        [
            normalizers.Replace("``", '"'),
            normalizers.Replace("''", '"'),
            normalizers.NFD(),
            normalizers.Lowercase(),
            normalizers.StripAccents(),
            space,  # before the deletion, which would join words at a no-break space
            normalizers.Replace(Regex(r"[^\x00-\x7F]+"), ""),
            normalizers.Replace(Regex(" {2,}"), " "),  # where a whole word was deleted
        ]
    )


def normalizer_name(tokenizer: Tokenizer) -> str:
    """`crammed`, `light`, or `other-` and a hash for the normaliser of a tokenizer from elsewhere."""
    state = _state(tokenizer.normalizer)
    names: tuple[Normalizer, ...] = ("crammed", "light")
    for name in names:
        if state == _state(build_normalizer(name)):
            return name
    return f"other-{xxhash.xxh3_64_hexdigest(state)}"


def _state(normalizer: normalizers.Normalizer | None) -> bytes:
    state: bytes = b"" if normalizer is None else normalizer.__getstate__()
    return state
