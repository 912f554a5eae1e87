import pytest
from tokenizers import Tokenizer, models, normalizers

from gpuday.data.normalize import Normalizer, build_normalizer, normalizer_name


@pytest.mark.parametrize(
    ("text", "light", "crammed"),
    [
        ("Ein  Café\n\tam See", "Ein Café am See", "ein cafe am see"),
        ("Cafe\u0301", "Caf\u00e9", "cafe"),
        ("``quoted'' text", "``quoted'' text", '"quoted" text'),
        ("日本 and π", "日本 and π", " and "),
        ("one 日 two", "one 日 two", "one two"),
        ("a\u00a0b", "a b", "a b"),
    ],
)
def test_what_a_normaliser_does_to_text(text: str, light: str, crammed: str) -> None:
    """Worked by hand: white space, composition, quotes, and what is outside ASCII."""
    assert build_normalizer("light").normalize_str(text) == light
    assert build_normalizer("crammed").normalize_str(text) == crammed


@pytest.mark.parametrize("name", ["light", "crammed"])
def test_a_normaliser_is_known_again_from_the_file(name: Normalizer) -> None:
    """Also after the tokenizer went through JSON."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = build_normalizer(name)
    assert normalizer_name(Tokenizer.from_str(tokenizer.to_str())) == name


def test_other_normalisers_have_names_of_their_own() -> None:
    """Two different ones are not mistaken for each other, nor is none for either."""
    tokenizer = Tokenizer(models.BPE())
    found = {normalizer_name(tokenizer)}
    for other in (normalizers.NFKC(), normalizers.Lowercase()):
        tokenizer.normalizer = other
        found.add(normalizer_name(tokenizer))
    assert len(found) == 3
    assert all(name.startswith("other-") for name in found)
