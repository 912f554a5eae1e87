"""The commands' arguments and help. What a command does is imported when it is called: help and a misspelt flag need no
torch, and are answered at once."""

import importlib
from pathlib import Path

from gpuday.cli.flags import All, Flags, Folders, Mnli, Output, ScoreFlags, TaskFlags, TextColumns


def run(preset: str | None = None, *, flags: Flags = Flags(), tasks: TaskFlags = TaskFlags()) -> None:  # noqa: B008
    """Prepare, train, evaluate, export and report. The same command again resumes.

    Parameters
    ----------
    preset
        A preset's name, or a TOML file that begins with `base = "..."`. [modern]
    """
    importlib.import_module("gpuday.cli.run").run_command(preset, flags=flags, tasks=tasks)


def prepare(preset: str | None = None, *, flags: Flags = Flags()) -> None:  # noqa: B008
    """Read the corpus, train the tokenizer, pack tokens.

    Parameters
    ----------
    preset
        A preset's name, or a TOML file that begins with `base = "..."`. [modern]
    """
    importlib.import_module("gpuday.cli.run").prepare_command(preset, flags=flags)


def train(preset: str | None = None, *, flags: Flags = Flags()) -> None:  # noqa: B008
    """Prepare if needed, and train until the budget is used.

    Parameters
    ----------
    preset
        A preset's name, or a TOML file that begins with `base = "..."`. [modern]
    """
    importlib.import_module("gpuday.cli.run").train_command(preset, flags=flags)


def evaluate(run: Path, *, tasks: ScoreFlags = ScoreFlags(), output: Output = Output()) -> None:  # noqa: B008
    """Score a trained run, or any encoder in a Hugging Face folder: downstream tasks and probes.

    Parameters
    ----------
    run
        The run's folder; or a Hugging Face folder, or a name on its hub.
    """
    importlib.import_module("gpuday.cli.evaluate").evaluate_command(run, tasks=tasks, output=output)


def predict(
    folder: Path,
    file: Path,
    *,
    out: Path,
    text: TextColumns = (),
    output: Output = Output(),  # noqa: B008
) -> None:
    """Answer the rows of a file with a fine-tuned model that was kept.

    Parameters
    ----------
    folder
        The model's folder: RUN/finetuned/SUITE[-PROTOCOL]/TASK/SEED.
    file
        The rows: CSV, TSV, JSON lines, parquet, or a txt of one text a line; for tags and answers as they were trained on.
    out
        Where the answers go, one a row: a name that ends in .jsonl or .csv.
    text
        Column of the text; repeat it where a row has two. [the columns that it was fine-tuned on]
    """
    importlib.import_module("gpuday.cli.predict").predict_command(folder, file, out=out, text=text, output=output)


def export(run: Path, *, output: Output = Output()) -> None:  # noqa: B008
    """Write a trained run as a Hugging Face folder, with its parity checked.

    Parameters
    ----------
    run
        The run's folder.
    """
    importlib.import_module("gpuday.cli.rooms").export_command(run, output=output)


def report(run: Path, *, output: Output = Output()) -> None:  # noqa: B008
    """Write a run's report.html.

    Parameters
    ----------
    run
        The run's folder.
    """
    importlib.import_module("gpuday.cli.rooms").report_command(run, output=output)


def replay(run: Path, *, output: Output = Output()) -> None:  # noqa: B008
    """Make a finished run's steps again from its journal, and compare the weights to the bit.

    Takes about as long as the training took, on the device it was trained on. Ends with 0 when everything is the same,
    with 70 when it is not.

    Parameters
    ----------
    run
        The run's folder.
    """
    importlib.import_module("gpuday.cli.replay").replay_command(run, output=output)


def compare(runs: Folders, *, mnli: Mnli = "once", output: Output = Output()) -> None:  # noqa: B008
    """Models side by side: scores, means over tasks, ranks, and how sure their order is.

    Reads what `gpuday evaluate` wrote. Only scores of the same tasks, rows and protocol are compared; what is left out is
    said with its reason.

    Parameters
    ----------
    runs
        Two or more folders of runs, or of scores of Hugging Face folders.
    mnli
        How often MNLI counts in the means: once, or its two dev sets as two tasks.
    """
    importlib.import_module("gpuday.cli.compare").compare_command(runs, mnli=mnli, output=output)


def list_(
    what: str = "runs",
    name: str | None = None,
    *,
    all_: All = False,
    output: Output = Output(),  # noqa: B008
) -> None:
    """Runs in a folder; or the presets, sizes, parts with their knobs, axes of a model, tasks and protocols that there are.

    A line of knobs or axes can be given as it stands behind --set.

    Parameters
    ----------
    what
        A folder of runs, or: presets, sizes, parts, axes, tasks, protocols, a kind of part such as optimizer, or where
        one stands in a recipe, such as mask_rate or batch.ramp.
    name
        One part of that kind, such as muon, whose knobs are shown.
    all_
        Show the knobs of all parts of a kind, as the lines for programs do.
    """
    importlib.import_module("gpuday.cli.rooms").list_command(what, name, all_=all_, output=output)


def show(what: str, *, flags: Flags = Flags()) -> None:  # noqa: B008
    """The recipe of a preset or TOML file with the flags applied, or the record of a run.

    Parameters
    ----------
    what
        A preset's name, a TOML file, or a run's folder.
    """
    importlib.import_module("gpuday.cli.rooms").show_command(what, flags=flags)


def doctor(*, output: Output = Output()) -> None:  # noqa: B008
    """What this machine has and can do, and what to mend before a run. Exit code 5 where training cannot run."""
    importlib.import_module("gpuday.cli.doctor").doctor_command(output=output)
