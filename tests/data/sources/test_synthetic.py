import re
from collections import Counter

from gpuday.data.document import DropCounter
from gpuday.data.sources.synthetic import Synthetic


def text(words: int, seed: int = 0) -> str:
    return "\n".join(d.text for d in Synthetic(words=words, seed=seed).documents(DropCounter()))


def test_equal_knobs_give_equal_text() -> None:
    """And other seeds other text."""
    assert text(2000) == text(2000)
    assert text(2000) != text(2000, seed=1)


def test_a_longer_text_begins_with_the_shorter_one() -> None:
    """Documents do not depend on how many there are, but for the last one."""
    assert text(5000).startswith(text(2000).rpartition("\n")[0])


def test_the_number_of_words_is_kept() -> None:
    """Up to one sentence."""
    assert 3000 <= len(text(3000).split()) <= 3020


def test_verbs_agree_with_their_subjects() -> None:
    """In sentences without a noun in between: `this` with a verb in -s, `these` with one without."""
    sentences = re.findall(r"^(this|these) \w+ (\w+) (?:this|these) \w+\.$", text(20_000).lower(), re.MULTILINE)
    assert len(sentences) > 300
    assert all(verb.endswith("s") == (determiner == "this") for determiner, verb in sentences)


def test_word_counts_fall_like_the_inverse_of_their_rank() -> None:
    """The commonest adjective is several times as common as the tenth."""
    counts = [n for _, n in Counter(re.findall(r"(?:this|these) (\w+) \w+s? ", text(50_000).lower())).most_common(40)]
    assert counts[0] > 3 * counts[9] > 3 * counts[30]


def test_the_fingerprint_follows_the_knobs() -> None:
    """Words and seed both count."""
    found = [Synthetic(words=w, seed=s).fingerprint() for w, s in ((1, 0), (2, 0), (1, 1), (1, 0))]
    assert found[0] == found[3]
    assert found[0] not in found[1:3]
