"""Scores of answers that are spans of a text, as SQuAD 1.1 and 2.0 take them (arXiv 1606.05250, arXiv 1806.03822).

Answers are compared after normalising: lower case, without ASCII punctuation, without a, an and the, single spaces. A
question may have several accepted answers, of which the best counts; "" answers that there is none.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(answer: str) -> str:
    """The answer as it is compared. Punctuation goes before the articles, so that "the-end" is one word, "theend"."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(accepted: Sequence[Sequence[str]], predicted: Sequence[str]) -> float:
    """Share of the questions whose answer equals an accepted one."""
    return _mean_of_best(accepted, predicted, lambda truth, named: float(normalised(truth) == normalised(named)))


def span_f1(accepted: Sequence[Sequence[str]], predicted: Sequence[str]) -> float:
    """Mean over the questions of the F1 of the words of answer and accepted answer; 1 if both are empty, 0 if one is."""
    return _mean_of_best(accepted, predicted, _f1_of_words)


def _mean_of_best(
    accepted: Sequence[Sequence[str]], predicted: Sequence[str], score: Callable[[str, str], float]
) -> float:
    # Where no accepted answer has a word left, "" is the one to give: so do the scripts of SQuAD 2.0.
    real = [[a for a in answers if normalised(a)] or [""] for answers in accepted]
    best = [max(score(a, named) for a in answers) for answers, named in zip(real, predicted, strict=True)]
    return sum(best) / len(best)


def _f1_of_words(truth: str, named: str) -> float:
    a, b = normalised(truth).split(), normalised(named).split()
    if not a or not b:
        return float(a == b)
    shared = (Counter(a) & Counter(b)).total()
    return 2.0 * shared / (len(a) + len(b))
