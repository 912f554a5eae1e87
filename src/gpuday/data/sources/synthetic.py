"""Made-up English with structure worth learning: Zipfian words, agreement in number, a topic in every document."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gpuday.core.seeds import stream_seed
from gpuday.data.document import Document, DropCounter
from gpuday.data.sources import Source

_TOPICS = 12
_DOCUMENT_WORDS = 120
_ONSETS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "st", "tr", "pl")
_VOWELS = ("a", "e", "i", "o", "u")
_CODAS = ("n", "r", "l", "m", "k", "t")
_PLACES = ("near", "behind", "under", "beside")


@dataclass(frozen=True, kw_only=True)
class Synthetic(Source):
    """Sentences of a small stochastic grammar. Equal knobs give equal text on every machine."""

    words: int = 20_000
    """Words in all; the last document may run over by a sentence."""
    seed: int = 0
    """Seed of both the vocabulary and the text."""

    def documents(self, drops: DropCounter) -> Iterator[Document]:
        """Documents of about 120 words, one sentence a line."""
        grammar, written = _Grammar(self.seed), 0
        for number in itertools.count():
            if written >= self.words:
                return
            draw = random.Random(stream_seed(self.seed, "synthetic/text", number))
            topic, length, sentences = draw.randrange(_TOPICS), 0, []
            while length < _DOCUMENT_WORDS and written + length < self.words:
                sentence = grammar.sentence(draw, topic)
                length += len(sentence)
                sentences.append(" ".join(sentence).capitalize() + ".")
            written += length
            yield Document("\n".join(sentences), f"synthetic:{number}", "synthetic", f"synthetic:{number}")

    def fingerprint(self) -> dict[str, Any]:
        """The knobs; they say everything."""
        return {"kind": "synthetic", "version": 1, "words": self.words, "seed": self.seed}


class _Grammar:
    """Vocabulary of one seed: each topic has its own nouns and verbs, all topics share adjectives."""

    def __init__(self, seed: int) -> None:
        draw = random.Random(stream_seed(seed, "synthetic/vocabulary"))
        stems: set[str] = set()
        while len(stems) < _TOPICS * 50 + 60:
            syllables = draw.choice((1, 2, 2, 3))
            open_syllables = [draw.choice(_ONSETS) + draw.choice(_VOWELS) for _ in range(syllables)]
            stems.add("".join(open_syllables) + draw.choice(_CODAS))
        pool = sorted(stems)
        draw.shuffle(pool)
        self._nouns = [pool[t * 50 : t * 50 + 30] for t in range(_TOPICS)]
        self._verbs = [pool[t * 50 + 30 : t * 50 + 50] for t in range(_TOPICS)]
        self._adjectives = pool[_TOPICS * 50 :]

    def sentence(self, draw: random.Random, topic: int) -> list[str]:
        """The words of a sentence whose verb agrees with its subject, not with the noun in between."""
        plural = draw.random() < 0.5
        subject = self._phrase(draw, topic, plural)
        if draw.random() < 0.4:
            subject += [draw.choice(_PLACES), *self._phrase(draw, topic, draw.random() < 0.5)]
        verb = _zipf(draw, self._verbs[topic]) + ("" if plural else "s")
        return [*subject, verb, *self._phrase(draw, topic, draw.random() < 0.5)]

    def _phrase(self, draw: random.Random, topic: int, plural: bool) -> list[str]:
        adjective = [_zipf(draw, self._adjectives)] if draw.random() < 0.3 else []
        noun = _zipf(draw, self._nouns[topic])
        return ["these" if plural else "this", *adjective, noun + "s" if plural else noun]


def _zipf(draw: random.Random, items: list[str]) -> str:
    """An item drawn with probability about proportional to 1 / rank."""
    return items[min(int(len(items) ** draw.random()) - 1, len(items) - 1)]
