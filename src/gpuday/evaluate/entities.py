"""F1 of whole entities from tags of words, as the script of the CoNLL-2003 task takes it (Tjong Kim Sang & De Meulder, 2003).

A tag is "O", or a prefix and a type: B-PER, I-PER. IOB1 (B- only where an entity follows one of its type), IOB2 (B- at
every begin) and IOBES / BILOU are read by the same rule, which never depends on the scheme: what a tag before and a tag
after mean for the border between them. A tag without a hyphen is a type whose words in a row are one entity.
"""

from collections.abc import Sequence

Entity = tuple[int, int, int, str]  # sentence, first word, one past the last, type
_BEGINS, _ENDS = ("B", "S", "U"), ("E", "S", "L", "U")
_PREFIXES = ("O", "I", *_BEGINS, *_ENDS)


def entities(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """(first word, one past the last, type) of every entity of one sentence, in order."""
    found: list[tuple[int, int, str]] = []
    start, before, kind_before = 0, "O", ""
    for i, tag in enumerate([*tags, "O"]):
        prefix, kind = _parts(tag)
        inside, was_inside = prefix != "O", before != "O"
        border = prefix in _BEGINS or before in _ENDS or kind != kind_before
        if was_inside and (border or not inside):
            found.append((start, i, kind_before))
        if inside and (border or not was_inside):
            start = i
        before, kind_before = prefix, kind
    return found


def entity_f1(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float:
    """F1 over the entities of all sentences, equal in place and type; 0 where neither has any, as the script has it."""
    wanted, named = _all(truth), _all(predicted)
    return 2.0 * len(wanted & named) / (len(wanted) + len(named)) if wanted or named else 0.0


def _all(sentences: Sequence[Sequence[str]]) -> set[Entity]:
    return {(i, *entity) for i, tags in enumerate(sentences) for entity in entities(tags)}


def _parts(tag: str) -> tuple[str, str]:
    """(prefix, type); O has no type, a lone prefix an empty one, and another tag without a hyphen is inside of its type."""
    prefix, hyphen, kind = tag.partition("-")
    return (prefix, kind) if hyphen or tag in _PREFIXES else ("I", tag)
