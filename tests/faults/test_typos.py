"""A slip of the keyboard ends with exit code 2 and the word that was meant, wherever on the command line it happens."""

import random
from collections import Counter
from dataclasses import dataclass, field
from types import ModuleType

import pytest

# Slips of each of the five sorts for a word of a kind: some 3,200 in all.
MOST = {"command": 4, "flag": 1, "preset": 6, "size": 5, "kind": 3, "task": 3, "part": 1, "key": 1, "toml": 1}
TURNS = ("key", "toml")  # every second key is asked for in a file
ONCE = (*TURNS, "literal")  # kinds whose words many presets have
SHARE = 0.95


@dataclass
class Tally:
    """What became of the slips of one kind of word."""

    made: int = 0
    first: int = 0
    named: int = 0
    other: int = 0
    """Slips that give another valid word: nobody can know that they are some."""
    wrong: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def tallies(tmp_path_factory: pytest.TempPathFactory, slips: ModuleType) -> dict[str, Tally]:
    """Every kind's tally."""
    place, draw, found, seen = tmp_path_factory.mktemp("typos"), random.Random(41), dict[str, Tally](), set()
    numbers = dict[str, int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for word in slips.words():
            same = (word.kind, word.text, word.valid if word.kind == "literal" else None)
            number = numbers.setdefault(word.text, len(numbers))
            if word.kind in ONCE and same in seen:
                continue  # which an earlier preset has, too
            if word.kind in TURNS and word.kind != TURNS[number % 2]:
                continue
            seen.add(same)
            tally = found.setdefault(word.kind, Tally())
            made, other = slips.sample(word, draw, MOST.get(word.kind, 1))
            tally.other += other
            for slip in made:
                if word.file is not None:
                    (place / "slip.toml").write_text(word.file(slip))
                _count(tally, word, slip, *slips.ask(word.command(slip)), slips.suggested)
    left = sorted(p.name for p in place.iterdir())
    assert left == ["slip.toml"], left
    return found


def _count(tally, word, slip, code, err, suggested):
    wanted = {f"--{word.text}" if word.kind == "flag" else word.text}
    if word.file is not None:
        wanted.add(word.text.rpartition(".")[2])  # in its table in the file, a key stands alone
    names = suggested(err)
    tally.made += 1
    tally.first += bool(names) and names[0] in wanted
    tally.named += bool(wanted & {*names})
    if code != 2 or "Traceback" in err or err.count("\n") > 12:
        tally.wrong.append(f"{slip}: {code}: {err}")


KINDS = ("command", "flag", "preset", "size", "kind", "task", "part", "key", "toml", "literal")


@pytest.mark.parametrize("kind", KINDS)
def test_a_slip_is_refused_as_one(tallies: dict[str, Tally], kind: str) -> None:
    """Exit code 2, a few lines, no traceback: for every kind of word."""
    assert tallies[kind].wrong == []
    assert tallies[kind].made > 70


@pytest.mark.parametrize("kind", KINDS)
def test_the_word_that_was_meant_is_suggested(tallies: dict[str, Tally], kind: str) -> None:
    """For 95% of the slips of each kind, as it is to be typed; where several words are equally near, among them."""
    tally = tallies[kind]
    assert tally.named >= SHARE * tally.made, f"{tally.named} of {tally.made}"


def test_the_first_suggestion_is_the_right_one(tallies: dict[str, Tally]) -> None:
    """For 95% of all slips, of which there are at least 3,000."""
    made, first = (sum(getattr(t, name) for t in tallies.values()) for name in ("made", "first"))
    assert made >= 3000
    assert first >= SHARE * made, f"{first} of {made}"


def test_slips_that_are_other_words_are_few(tallies: dict[str, Tally]) -> None:
    """They are left out above, which must not leave out much."""
    others = Counter({kind: tally.other for kind, tally in tallies.items()})
    assert others.total() < 100, others


@pytest.mark.parametrize("sort", range(5))
def test_the_sorts_of_slips_are_what_they_are_called(slips: ModuleType, sort: int) -> None:
    """Worked by hand for a word of three letters, so that the counts above mean something."""
    made = list(slips.SLIPS[sort]("out"))
    assert len(made) == (3, 3, 2, 75, 78)[sort]
    assert {("ut", "ot", "ou"), ("oout", "ouut", "outt"), ("uot", "otu")} >= ({tuple(made)} if sort < 3 else set())
    assert all(len(word) == (2, 4, 3, 3, 4)[sort] for word in made)


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--learning-rate", "--set optimizer.lr="),
        ("--lr", "--set optimizer.lr="),
        ("--batch-size", "--set batch.rows="),
        ("--epochs", "--budget 24h"),
        ("--data", "--corpus"),
        ("--output", "--out"),
        ("--output_dir", "--out"),
        ("--steps", "--budget 5000steps"),
        ("--gpu", "CUDA_VISIBLE_DEVICES"),
        ("--resume", "the same command again resumes"),
        ("--model", "gpuday run modern"),
    ],
)
def test_flags_of_other_tools_are_translated(slips: ModuleType, flag: str, said: str) -> None:
    """What people bring from elsewhere is no slip, and has an answer, too."""
    code, err = slips.ask(["run", flag, "3"])
    assert (code, err.count("\n")) == (2, 3)
    assert said in err


@pytest.mark.parametrize(
    ("key", "here"),
    [
        ("lr", "optimizer.lr"),
        ("batch_size", "batch.rows"),
        ("model.layers", "model.shape.layers"),
        ("optimizer.learning_rate", "optimizer.lr"),
        ("train.batch", "batch.rows"),
    ],
)
def test_keys_of_other_tools_are_translated_to_one_that_works(slips: ModuleType, key: str, here: str) -> None:
    """The same for --set; and the key that is named takes the value."""
    code, err = slips.ask(["show", "modern", "--set", f"{key}=1"])
    assert code == 2
    assert here in err
    assert slips.ask(["show", "modern", "--set", f"{here}=1"])[0] == 0


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["eval"], "gpuday evaluate"),
        (["pretrain"], "gpuday run"),
        (["modern"], "gpuday run modern"),
        (["run", "modern", "10m"], "--budget 10m"),
        (["run", "nano"], "--size nano"),
        (["run", "\u2013budget", "10m"], "write --budget"),
        (["run", "-budget", "10m"], "two hyphens"),
        (["evaluate", "x", "--budget", "1h"], "a flag of run, prepare, train"),
        (["run", "--budget", "-5m"], "--budget=-5m"),
        (["run", "--budget"], "has no value"),
        (["run", "--seed", "1", "--seed", "2"], "given twice"),
        (["run", "a", "b"], "one word too many"),
        (["evaluate"], "gpuday evaluate RUN"),
    ],
)
def test_words_in_a_wrong_place_are_sent_to_the_right_one(slips: ModuleType, command: list[str], said: str) -> None:
    """No slip of a letter, but one of the mind."""
    code, err = slips.ask(command)
    assert code == 2
    assert said in err
    assert err.count("\n") <= 3
