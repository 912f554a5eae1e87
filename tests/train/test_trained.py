"""A trained run as others get it: the final weights under the recipe's model, or a sentence that says what is missing."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gpuday.core import config
from gpuday.core.errors import DataError, Interrupted, UsageError
from gpuday.core.rundir import RunDir, write_json
from gpuday.data.prepare import PreparedData
from gpuday.objectives import Learner
from gpuday.recipe import Recipe
from gpuday.train import trained as trained_runs
from gpuday.train.checkpoint import load_newest
from gpuday.train.trained import load_recipe, load_trained

TrainRun = Callable[..., Any]


@pytest.fixture
def claimed(run: RunDir, tiny: Recipe, data: PreparedData) -> RunDir:
    """A run directory as `gpuday train` begins it: recipe and data."""
    write_json(run.recipe, config.to_dict(tiny))
    run.data.symlink_to(data.folder, target_is_directory=True)
    return run


def test_the_recipe_of_a_run_is_rebuilt_from_its_file_alone(claimed: RunDir, tiny: Recipe) -> None:
    """Every part and every number, to the fingerprint."""
    assert load_recipe(claimed) == tiny
    assert config.fingerprint(load_recipe(claimed)) == config.fingerprint(tiny)


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    """Exit code 3, and what to give instead."""
    with pytest.raises(DataError, match="is not a run directory") as caught:
        load_recipe(RunDir(tmp_path))
    assert caught.value.exit_code == 3


def test_a_recipe_with_a_key_of_another_version_is_refused(claimed: RunDir, tiny: Recipe) -> None:
    """With the file's name, so that the reader knows which."""
    write_json(claimed.recipe, {**config.to_dict(tiny), "surprise": 1})
    with pytest.raises(UsageError, match=r"recipe\.json\.surprise"):
        load_recipe(claimed)


def test_a_trained_run_holds_its_final_weights(claimed: RunDir, finished: RunDir, learner: Learner) -> None:
    """Those of the newest checkpoint, in evaluation mode, in fp32, with the tokenizer that made the tokens."""
    trained = load_trained(claimed.root)
    saved = load_newest(claimed.checkpoints, warn=pytest.fail)
    assert saved is not None
    assert not trained.model.training
    assert trained.model.encoder.dtype == torch.float32
    assert trained.tokenizer.vocab_size == trained.model.vocab == 512
    for name, parameter in trained.model.named_parameters():
        assert torch.equal(parameter.cpu(), saved.model[f"model.{name}"])
    assert not torch.equal(
        trained.model.encoder.embedding.weight.cpu(), learner.model.encoder.embedding.weight.detach()
    )


def test_scores_are_computed_in_exact_fp32(claimed: RunDir, finished: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the TF32 that training on a GPU may leave behind."""
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(trained_runs, "configure", lambda device, **options: given.append(options))
    load_trained(claimed.root)
    assert given == [{"exact": True}]


def test_a_run_without_a_checkpoint_says_so(claimed: RunDir) -> None:
    """A prepared run is not a trained one: exit code 3, and what to do."""
    with pytest.raises(DataError, match="has no final weights") as caught:
        load_trained(claimed.root)
    assert "train it to the end" in caught.value.fix


def test_an_interrupted_run_is_not_a_trained_one(claimed: RunDir, train_run: TrainRun) -> None:
    """Nobody reports the scores of weights in the middle of their schedule as those of the run."""

    def stop(event: str, /, **values: Any) -> None:
        if event == "step" and values["step"] == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        train_run(tell=stop)
    with pytest.raises(DataError, match="has no final weights"):
        load_trained(claimed.root)
    train_run()
    assert load_trained(claimed.root).recipe.budget.amount == 6


def test_damaged_final_weights_are_not_replaced_by_older_ones(claimed: RunDir, finished: RunDir) -> None:
    """The checkpoint before is not the end of the run; the message says what is damaged."""
    path = claimed.checkpoints / "step-00000006" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"has no final weights; checkpoint step-00000006 is damaged \(wrong-size"):
        load_trained(claimed.root)


def test_the_generator_comes_beside_the_model(
    claimed: RunDir, train_run: TrainRun, make_recipe: Callable[..., Recipe]
) -> None:
    """Of a run that tells replaced tokens: both with their final weights, one table of tokens, and the run's note that
    the held-out loss is the generator's."""
    told: list[str] = []
    recipe = make_recipe(objective={"part": "rtd"})
    write_json(claimed.recipe, config.to_dict(recipe))
    train_run(recipe, tell=lambda event, /, **values: told.append(values["message"]) if event == "note" else None)
    trained = load_trained(claimed.root)
    saved = load_newest(claimed.checkpoints, warn=pytest.fail)
    assert saved is not None and trained.generator is trained.predictor is not trained.model
    for name, parameter in trained.model.named_parameters():
        assert torch.equal(parameter.cpu(), saved.model[f"model.{name}"])
    assert trained.generator.encoder.embedding is trained.model.encoder.embedding
    assert torch.equal(trained.generator.head.dense.weight.cpu(), saved.model["generator.head.dense.weight"])
    assert [note for note in told if "generator's" in note] == list(recipe.objective.notes())
