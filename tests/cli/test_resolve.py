"""From preset and flags to a recipe and its directory: what wins over what, and what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuday import presets
from gpuday.cli import resolve
from gpuday.cli.flags import Flags
from gpuday.cli.resolve import claim_run, resolve_recipe, resolve_run
from gpuday.cli.screen import Screen
from gpuday.core import config, parts
from gpuday.core.clock import Budget
from gpuday.core.errors import UsageError
from gpuday.core.rundir import RunDir, read_json
from gpuday.objectives import Objective
from gpuday.optim.adamw import Adamw
from gpuday.recipe import Recipe
from gpuday.schedules.constant import Constant


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of its own, on a CPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(resolve, "pick_device", lambda: type("Cpu", (), {"type": "cpu"}))
    return tmp_path


def recipe_of(preset: str | None = None, **flags: Any) -> Recipe:
    return resolve_recipe(preset, Flags(**flags), Screen(as_json=True))


def toml(place: Path, text: str) -> str:
    (place / "mine.toml").write_text(text)
    return "mine.toml"


def test_a_preset_with_size_and_budget_is_the_presets_own_recipe() -> None:
    """Nothing is added to what the Python function returns."""
    wanted = presets.find("crammed")("base", Budget.parse("24h"))
    assert recipe_of("crammed", size="base", budget="24h") == wanted


def test_without_anything_the_best_preset_for_device_and_budget_is_chosen_aloud(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A day on a CPU: `modern` at the size of the table, and the reason is told."""
    recipe = recipe_of()
    assert (recipe.preset, recipe.size, recipe.budget) == ("modern", "mini", Budget.parse("24h"))
    event = json.loads(capsys.readouterr().out)
    assert event["event"] == "choice"
    assert event["size"] == "mini" and "24h on cpu" in event["reason"]


@pytest.mark.parametrize(
    ("preset", "size", "reason"),
    [
        (None, "nano", "the preset that is taken where none is given"),
        ("bert", None, "the size for a budget of 2h on cpu"),
        ("bert", "auto", "the size for a budget of 2h on cpu"),
    ],
)
def test_a_choice_has_the_reason_of_what_was_chosen_and_no_other(
    capsys: pytest.CaptureFixture[str], preset: str | None, size: str | None, reason: str
) -> None:
    """A size that was given is not called one for a budget, nor a preset that was given one that is taken anyway."""
    recipe_of(preset, size=size, budget="2h")
    assert json.loads(capsys.readouterr().out)["reason"] == reason


def test_nothing_is_called_a_choice_that_the_user_made(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Preset and size given, by flags or in a file: there is no reason to tell."""
    recipe_of("bert", size="nano")
    recipe_of(toml(place, 'base = "modern"\nsize = "nano"\n'))
    assert capsys.readouterr().out == ""


def test_flags_reach_the_recipe() -> None:
    """Each at its key."""
    recipe = recipe_of(
        "modern",
        size="nano",
        budget="1h",
        corpus=("a.txt", "b"),
        heldout=("h",),
        documents="file",
        tokenizer="wordpiece",
        vocab=640,
        seed=9,
    )
    data = recipe.data
    assert (data.corpus, data.heldout, data.documents) == (("a.txt", "b"), ("h",), "file")
    assert (data.tokenizer, data.vocab, recipe.seed) == ("wordpiece", 640, 9)
    assert recipe.budget == Budget(amount=3600, unit="seconds")


def test_a_toml_file_changes_what_it_names(place: Path) -> None:
    """Base, size, budget and nested tables; all else is the base's."""
    text = 'base = "bert"\nsize = "nano"\nbudget = "1h"\n[optimizer]\nlr = 5e-4\n[data]\ncorpus = ["x.txt"]\n'
    base = presets.find("bert")("nano", Budget.parse("1h"))
    recipe = recipe_of(toml(place, text))
    assert {path: new for path, _, new in config.differences(base, recipe)} == {
        "optimizer.lr": 5e-4,
        "data.corpus": ["x.txt"],
    }


def test_flags_win_over_the_file_and_settings_over_flags(place: Path) -> None:
    """The nearer to the user, the stronger; of two settings the later."""
    path = toml(place, 'base = "modern"\nsize = "micro"\nbudget = "1h"\nseed = 1\n[data]\nvocab = 640\n')
    recipe = recipe_of(path, size="nano", budget="10m", seed=2, vocab=704, set=("seed=3", "seed=4"))
    assert (recipe.size, recipe.budget.amount, recipe.seed, recipe.data.vocab) == ("nano", 600, 4, 704)


def test_a_budget_may_be_a_table(place: Path) -> None:
    """As a run's own recipe writes it."""
    path = toml(place, 'base = "modern"\nsize = "nano"\nbudget = { amount = 90, unit = "steps" }\n')
    assert recipe_of(path).budget == Budget(amount=90.0, unit="steps")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('size = "nano"', "names no base"),
        ("base = 3", "names no base"),
        ('base = "modrn"', "did you mean 'modern'"),
        ('base = "modern"\noptimiser = "adamw"', "did you mean 'optimizer'"),
        ('base = "modern"\n[optimizer]\nrate = 1', "unknown key 'optimizer.rate'"),
        ('base = "modern"\n[train]\nmicrobatch = "many"', "train.microbatch is 'many'"),
        ('base = "modern"\nbudget = "soon"', "not a budget"),
        ('base = "modern"\n[', "not valid TOML"),
        ('base = "modern"\noptimizer = "os.system"', "no optimizer is called"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_nearest_match(place: Path, text: str, said: str) -> None:
    """By key, before anything is made."""
    with pytest.raises(UsageError) as caught:
        recipe_of(toml(place, text), size="nano")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("item", "path", "value"),
    [
        ("optimizer.lr=1e-3", "optimizer.lr", 1e-3),
        ("optimizer.rest.lr = 2", "optimizer.rest.lr", 2.0),
        ("model.position=learned", "model.position", "learned"),
        ('data.corpus=["a", "b=c"]', "data.corpus", ["a", "b=c"]),
        ("train.dropout=true", "train.dropout", True),
        ("optimizer=adamw", "optimizer", config.to_dict(Adamw())),
        ("rate={part = 'constant', value = 0.5}", "rate", config.to_dict(Constant(value=0.5))),
    ],
)
def test_a_setting_is_read_as_toml(item: str, path: str, value: Any) -> None:
    """Numbers, lists, tables and bare words; the first `=` divides, spaces around it do not matter."""
    found = config.to_dict(recipe_of("modern", size="nano", set=(item,)))
    for key in path.split("."):
        found = found[key]
    assert found == value


@pytest.mark.parametrize(
    "items",
    [
        ("optimizer=sam", "optimizer.inner=lion", "optimizer.inner.lr=3e-4"),
        ("train.dropout=true", "model.dropout=0.1", "dropout=linear"),
        ("objective.mlm.masked=0.8", "objective.mlm.random=0.2"),
    ],
)
def test_settings_that_need_each_other_come_in_any_order(items: tuple[str, ...]) -> None:
    """Backwards as well as forwards: a setting that is refused waits for those after it."""
    assert recipe_of(set=items[::-1]) == recipe_of(set=items) != recipe_of()


@pytest.mark.parametrize("item", ["optimizer.lr", "optimizer.lrr=1", "nothing=1", "=1", "seed=-1", "preset.x=1"])
def test_a_setting_that_fits_nowhere_is_refused(item: str) -> None:
    """Never a key that nobody reads."""
    with pytest.raises(UsageError):
        recipe_of("modern", size="nano", set=(item,))


def test_a_key_of_another_part_is_answered_with_the_keys_that_there_are() -> None:
    """And not with itself, where a part of the usual kind would have it."""
    with pytest.raises(UsageError) as fault:
        recipe_of("modern", set=("model.shape=funnel", "model.shape.layers=12", "model.first_norm=true"))
    assert "model.shape.stages" in fault.value.fix and "model.shape.layers" not in fault.value.fix


def test_a_part_of_the_users_own_may_be_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--part`, then its name anywhere in the recipe; without the flag the name is unknown."""
    monkeypatch.setattr(parts, "_user_files", {})
    (place / "halved.py").write_text(
        "from dataclasses import dataclass\n"
        "from gpuday.schedules import Schedule\n\n\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Halved(Schedule):\n"
        '    """Half."""\n\n'
        "    def __call__(self, fraction: float) -> float:\n"
        "        return 0.5\n"
    )
    with pytest.raises(UsageError, match="no schedule is called 'halved'"):
        recipe_of("modern", size="nano", set=("rate=halved",))
    recipe = recipe_of("modern", size="nano", part=(Path("halved.py"),), set=("rate=halved",))
    assert recipe.rate(0.3) == 0.5


def test_a_run_is_named_after_what_makes_it(place: Path) -> None:
    """Preset, size, budget and hash under runs/: equal flags find the same folder, other ones another."""
    recipe = recipe_of("modern", size="nano", budget="10m")
    root = resolve_run(recipe, Flags()).root
    assert root == Path("runs") / f"modern-nano-600seconds-{config.fingerprint(recipe)[:8]}"
    other = recipe_of("modern", size="nano", budget="10m", seed=1)
    assert resolve_run(other, Flags()).root != root
    assert resolve_run(recipe_of("modern", size="nano", budget="1e18flop"), Flags()).root.name.startswith(
        "modern-nano-1e18flops-"
    )


def test_out_names_the_folder(place: Path) -> None:
    """Anywhere; only its own name must be plain."""
    recipe = recipe_of("modern", size="nano")
    assert resolve_run(recipe, Flags(out=place / "else where" / "mine")).root == place / "else where" / "mine"
    with pytest.raises(UsageError, match="cannot name a run"):
        resolve_run(recipe, Flags(out=place / "-rf"))


def test_a_folder_with_another_recipe_is_refused_with_the_differences(place: Path) -> None:
    """The first eight, old and new; the same recipe is welcome."""
    recipe = recipe_of("modern", size="nano")
    run = resolve_run(recipe, Flags(out=place / "mine"))
    claim_run(run, recipe, {})
    assert resolve_run(recipe, Flags(out=place / "mine")) == run
    other = recipe_of("modern", size="nano", seed=5, set=("optimizer.lr=0.5",))
    with pytest.raises(UsageError, match="another recipe") as caught:
        resolve_run(other, Flags(out=place / "mine"))
    assert "seed: 0 there, 5 asked" in str(caught.value)
    assert "optimizer.lr: 0.02 there, 0.5 asked" in str(caught.value)


def test_a_claim_writes_the_recipe_once_and_each_new_environment(place: Path) -> None:
    """A resume by another command or on other versions is on record; the same once more is not."""
    recipe = recipe_of("modern", size="nano")
    run = RunDir(place / "mine")
    for command, torch in (("run", "1"), ("run", "1"), ("train", "1"), ("train", "2")):
        claim_run(run, recipe, {"torch": torch, "command": [command]})
    assert config.from_dict(Recipe, read_json(run.recipe)) == recipe
    seen = [(e["command"][0], e["torch"]) for e in read_json(run.environment)["attempts"]]
    assert seen == [("run", "1"), ("train", "1"), ("train", "2")]


@pytest.mark.parametrize(
    ("budget", "what", "fix"),
    [
        ("0.5steps", "is not a whole number of steps", "1steps"),
        ("2.5steps", "is not a whole number of steps", "2steps"),
        ("200.5tok", "is not a whole number of tokens", "200tokens"),
        ("1tok", "1 tokens are less than one row, which has 128", "128tok"),
        ("1e-9s", "1e-09 seconds are too few for a step", "1s"),
    ],
)
def test_a_budget_too_small_for_a_step_is_refused(budget: str, what: str, fix: str) -> None:
    """It would end at once, without a word; the least that is named is taken."""
    with pytest.raises(UsageError) as caught:
        recipe_of("modern", size="nano", budget=budget)
    assert what in caught.value.what and fix in caught.value.fix
    assert recipe_of("modern", size="nano", budget=fix).budget.amount >= 1


def test_what_a_scheduler_puts_beside_a_run_is_no_other_persons(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its log, its script, and whatever file this command prints into; a text file of anybody's is."""
    recipe = recipe_of("modern", size="nano")
    (place / "mine").mkdir()
    for name in ("slurm-7.out", "job.err", "job.log", "job.sh", "mine.toml", "log.txt", "train_log.txt"):
        (place / "mine" / name).touch()
    resolve_run(recipe, Flags(out=place / "mine"))
    (place / "mine" / "printed.txt").touch()
    with pytest.raises(UsageError, match=r"holds printed\.txt, which is no run"):
        resolve_run(recipe, Flags(out=place / "mine"))
    status = (place / "mine" / "printed.txt").stat()
    monkeypatch.setattr(resolve.os, "fstat", lambda stream: status)
    resolve_run(recipe, Flags(out=place / "mine"))
    (place / "mine" / "results.log").mkdir()
    with pytest.raises(UsageError, match=r"holds results\.log"):
        resolve_run(recipe, Flags(out=place / "mine"))


def test_many_differences_stand_on_a_line_each(place: Path) -> None:
    """Eight of them, and how many more there are; a long value is cut."""
    recipe = recipe_of("modern", size="nano")
    run = resolve_run(recipe, Flags(out=place / "mine"))
    claim_run(run, recipe, {})
    other = recipe_of("bert", size="nano", corpus=("x" * 500,))
    with pytest.raises(UsageError, match="another recipe") as caught:
        resolve_run(other, Flags(out=place / "mine"))
    first, *rows, more = caught.value.what.splitlines()
    assert first == f"{place / 'mine'} holds a run of another recipe"
    assert len(rows) == 8 and all(" there, " in row and len(row) < 200 for row in rows)
    assert more == f"and {len(config.differences(recipe, other)) - 8} more"


@pytest.mark.parametrize("name", parts.names(Objective))
def test_a_model_of_every_objective_is_checked_without_memory(name: str) -> None:
    """Before anything is spent; also one that draws values of its own for what it trains beside the model."""
    resolve.check_model(recipe_of("modern", size="nano", set=(f"objective={name}",)))


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("betas=0.9", "optimizer.rest.beta1"),
        ("warmup_steps=100", "a share of the budget: rate.warmup=0.02"),
        ("heads=12", "model.width divided by the heads"),
        ("train.warmup=2", "a share of the budget"),
        ("dropout=0.1", "model.dropout"),
        ("mixer.dropout=0.1", "model.dropout"),
    ],
)
def test_a_habit_goes_before_a_word_that_is_only_spelled_alike(item: str, said: str) -> None:
    """`betas` is two letters from `bias`; a key of that very name is still named first."""
    with pytest.raises(UsageError) as caught:
        recipe_of("modern", size="nano", set=(item,))
    assert said in caught.value.fix
    assert "model.bias" not in caught.value.fix


def test_a_share_that_is_none_is_said_with_its_key() -> None:
    """Three schedules have an `end` each."""
    for preset, item in (("modern", "rate.end"), ("modern", "batch.ramp.until"), ("crammed", "rate.peak")):
        with pytest.raises(UsageError) as caught:
            recipe_of(preset, size="nano", set=(f"{item}=2",))
        assert caught.value.where == item


@pytest.mark.parametrize(
    ("preset", "sets", "told"),
    [
        ("modern", ("model.dropout=0.1",), ["model.dropout=0.1 drops nothing in pretraining"]),
        ("modern", ("model.dropout=0.1", "train.dropout=true"), []),
        ("crammed", (), []),  # the paper's: 0.1, and off in pretraining
        ("crammed", ("model.dropout=0.2",), ["model.dropout=0.2 drops nothing in pretraining"]),
        ("crammed", ("model.dropout=0.0",), []),
    ],
)
def test_a_dropout_that_does_not_act_is_told(
    preset: str, sets: tuple[str, ...], told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it was asked for, and not where a preset has it."""
    recipe_of(preset, size="nano", budget="10m", set=sets)
    messages = [json.loads(line)["message"] for line in capsys.readouterr().out.splitlines()]
    assert [message.partition(":")[0] for message in messages] == told
