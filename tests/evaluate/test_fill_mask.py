from dataclasses import replace

import pytest

from gpuday.core.errors import UsageError
from gpuday.data.words import WordQuestion
from gpuday.evaluate.fill_mask import LEAST_LETTERS, samples
from gpuday.train.trained import Trained


def test_samples_hide_one_real_word_each_and_repeat_by_seed(held_out: Trained) -> None:
    """Five texts with one mask, a word of letters as truth, five guesses that are probabilities; the same again."""
    found = samples(held_out, seed=1)
    assert found == samples(held_out, seed=1)
    assert found != samples(held_out, seed=2)
    assert len(found) == 5
    for sample in found:
        assert sample["text"].count("<mask>") == 1
        assert sample["truth"].isalpha()
        assert len(sample["truth"]) >= LEAST_LETTERS
        probabilities = [p["probability"] for p in sample["predictions"]]
        assert len(probabilities) == 5
        assert probabilities == sorted(probabilities, reverse=True)
        assert 0 < sum(probabilities) <= 1


def test_the_hidden_word_fits_its_place(held_out: Trained) -> None:
    """With the truth put back the text is a piece of the held-out text."""
    question = WordQuestion.open(held_out.run.data / "heldout.words")
    lines = " ".join(held_out.tokenizer.decode(row.tolist()) for row in question.labels)
    for sample in samples(held_out):
        before, after = sample["text"].replace("<mask>", sample["truth"]).split(sample["truth"], 1)
        assert f"{before[-12:]}{sample['truth']}{after[:12]}".strip() in lines


def test_a_prompt_is_filled_and_has_no_truth(trained: Trained) -> None:
    """Both spellings of the mask stand for the missing word; one answer a prompt."""
    found = samples(trained, ["the [MASK] river", "<mask> stands behind the house"])
    assert [s["truth"] for s in found] == [None, None]
    assert [s["text"] for s in found] == ["the <mask> river", "<mask> stands behind the house"]


def test_special_tokens_surround_a_prompt_as_in_training(trained: Trained) -> None:
    """A recipe with `<cls>` before documents gives other predictions than one without."""
    data = replace(trained.recipe.data, cls=True)
    with_cls = replace(trained, recipe=replace(trained.recipe, data=data))
    prompt = ["the <mask> river"]
    assert samples(with_cls, prompt)[0]["predictions"] != samples(trained, prompt)[0]["predictions"]
    assert samples(with_cls, prompt)[0]["text"] == "the <mask> river"


@pytest.mark.parametrize("prompt", ["no mask", "<mask> and <mask>", "word " * 40 + "<mask>"])
def test_a_prompt_that_cannot_be_asked_is_refused(trained: Trained, prompt: str) -> None:
    """None, two, or too much text around it."""
    with pytest.raises(UsageError, match=r"prompt|does not have one"):
        samples(trained, [prompt])
