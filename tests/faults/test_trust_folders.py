"""Folders from strangers: a run or a model folder that somebody else made is looked at, resumed and exported without harm.

Links in it lead nowhere, code in it is not executed, pickles in it are not read, and what is outside of it stays as it is.
"""

import contextlib
import io
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gpuday import presets
from gpuday.cli import main
from gpuday.core import config
from gpuday.core.errors import DataError, GpudayError, UsageError
from gpuday.core.journal import Journal
from gpuday.core.rundir import RunDir, check_name, write_json
from gpuday.data.corpus import parse_source
from gpuday.data.document import DropCounter
from gpuday.data.sources.files import Files
from gpuday.data.tokenizer import TextTokenizer
from gpuday.evaluate.tasks import parse_tasks
from gpuday.export.hf import export
from gpuday.export.modernbert import MODERNBERT
from gpuday.export.native import Specials
from gpuday.export.parity import ParityError, check_model
from gpuday.models.heads import MaskedLM
from gpuday.recipe import KINDS, Recipe
from gpuday.report.load import load_run
from gpuday.report.tables import list_runs
from gpuday.train.trained import Trained
from loading import load

support = load(Path(__file__).parent / "canary.py")
canary, tokenizer = support.canary, support.tokenizer  # fixtures are found by their names
PLAIN, evil_pickle, evil_zip = support.PLAIN, support.evil_pickle, support.evil_zip


@pytest.fixture
def hostile_run(tmp_path: Path) -> RunDir:
    """A run folder whose own files are links to a file that somebody values."""
    (tmp_path / "precious").write_text("mine\n")
    run = RunDir(tmp_path / "runs" / "evil")
    run.root.mkdir(parents=True)
    write_json(run.recipe, PLAIN)
    return run


def test_the_lock_does_not_empty_what_it_is_linked_to(hostile_run: RunDir, tmp_path: Path) -> None:
    """`.lock` is refused as a link: opening it would write the owner's name over the file."""
    (hostile_run.root / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UsageError), hostile_run.lock():
        pytest.fail("the lock was taken")
    assert (tmp_path / "precious").read_text() == "mine\n"


def test_the_journal_is_not_appended_to_what_it_is_linked_to(hostile_run: RunDir, tmp_path: Path) -> None:
    """A link to a shell's start file would get lines."""
    hostile_run.journal.symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        Journal(hostile_run.journal, attempt=1)
    assert (tmp_path / "precious").read_text() == "mine\n"


def test_files_that_are_replaced_are_replaced_in_the_run(hostile_run: RunDir, tmp_path: Path) -> None:
    """Summary and heartbeat as links: the link gives way, what it led to stays. Planted temporary files too."""
    for path in (hostile_run.summary, hostile_run.heartbeat):
        path.symlink_to(tmp_path / "precious")
        write_json(path, {})
        assert not path.is_symlink()
    (hostile_run.root / f".fit.json.{os.getpid()}.tmp").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        write_json(hostile_run.fit, {"a": 1})
    assert (tmp_path / "precious").read_text() == "mine\n"


@pytest.mark.parametrize("name", ["recipe.json", "summary.json", "environment.json", "fit.json", "heartbeat.json"])
@pytest.mark.parametrize("target", ["/dev/zero", "/dev/random", "pipe"])
def test_a_device_or_a_pipe_in_a_run_does_not_hang_a_look_at_it(hostile_run: RunDir, name: str, target: str) -> None:
    """`gpuday list` of a folder that holds such a run: a row that says damaged, or one without what is missing."""
    write_json(hostile_run.summary, {})
    path = hostile_run.root / name
    path.unlink(missing_ok=True)
    os.mkfifo(path) if target == "pipe" else path.symlink_to(target)
    rows = list_runs(hostile_run.root.parent, lambda _: None)
    assert [row["name"] for row in rows] == ["evil"]
    if name != "recipe.json":
        with pytest.raises(DataError):
            load_run(hostile_run.root)


def test_text_in_a_run_is_not_a_template(hostile_run: RunDir, canary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names, notes and values that are Jinja or Python: the commands that look at the run show them as they are."""
    evil = "{{ cycler.__init__.__globals__.os.mknod('" + str(canary) + "') }}"
    write_json(
        hostile_run.summary, {"device": evil, "samples": [{"text": evil}], "compliance": {evil: evil}, "command": evil}
    )
    for command in (
        ["report", str(hostile_run.root)],
        ["show", str(hostile_run.root)],
        ["list", str(hostile_run.root.parent)],
    ):
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 0
    assert "cycler.__init__" in capsys.readouterr().out and "cycler.__init__" in hostile_run.report.read_text()


@pytest.fixture
def trained(tmp_path: Path, tokenizer: TextTokenizer) -> Trained:
    """A model that was not trained, in a run's folder."""
    tables = {
        "model": {"width": 32, "mixer": {"head_width": 16}, "shape": {"layers": 1}},
        "data": {"vocab": 320, "length": 32},
    }
    recipe = config.merge(config.from_dict(Recipe, PLAIN), tables)
    model = MaskedLM(recipe.model, vocab=tokenizer.vocab_size, length=32).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(
                torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.3 + (weight.dim() < 2)
            )
    return Trained(recipe, model, tokenizer, RunDir(tmp_path / "run"), torch.device("cpu"))


def test_an_export_takes_no_place_but_its_own(trained: Trained, tmp_path: Path) -> None:
    """model/ as a link to an earlier export of another run, to a folder of files, or to nothing: refused, all stays."""
    trained.run.root.mkdir()
    earlier = tmp_path / "earlier"
    export(trained, earlier)
    before = {p.name: p.read_bytes() for p in earlier.iterdir()}
    for target in (earlier, tmp_path / "nothing"):
        trained.run.model.unlink(missing_ok=True)
        trained.run.model.symlink_to(target)
        with pytest.raises(UsageError, match="is a link"):
            export(trained)
    assert {p.name: p.read_bytes() for p in earlier.iterdir()} == before
    trained.run.model.unlink()
    for planted in (".model.new", ".model.old"):
        (trained.run.root / planted).symlink_to(earlier, target_is_directory=True)
        with contextlib.suppress(OSError, UsageError):
            export(trained)
        assert {p.name: p.read_bytes() for p in earlier.iterdir()} == before


@pytest.fixture
def model_folder(trained: Trained, tmp_path: Path) -> Path:
    """The model as a Hugging Face folder, without tokenizer."""
    import transformers

    folder = tmp_path / "model"
    folder.mkdir()
    settings = MODERNBERT.config(trained.model, Specials(pad=0, cls=2, sep=3), version=transformers.__version__)
    (folder / "config.json").write_text(json.dumps(settings))
    save_file(MODERNBERT.weights(trained.model), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_code_in_a_model_folder_is_never_executed(trained: Trained, model_folder: Path, canary: Path) -> None:
    """A config that maps its classes to a file beside it: the native class is taken, or the folder refused."""
    code = f"from pathlib import Path\nPath({str(canary)!r}).touch()\nclass Evil: pass\n"
    for name in ("modeling_evil.py", "configuration_evil.py", "__init__.py", "setup.py", "conftest.py"):
        (model_folder / name).write_text(code)
    settings = json.loads((model_folder / "config.json").read_text())
    mapped = {
        f"Auto{kind}": "modeling_evil.Evil"
        for kind in ("Config", "Model", "ModelForMaskedLM", "ModelForSequenceClassification")
    }
    (model_folder / "config.json").write_text(json.dumps({**settings, "auto_map": mapped}))
    check_model(trained.model, model_folder)
    (model_folder / "config.json").write_text(json.dumps({**settings, "auto_map": mapped, "model_type": "evil"}))
    with pytest.raises((ValueError, OSError, GpudayError)):
        check_model(trained.model, model_folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.ckpt", "training_args.bin", "optimizer.pt"])
@pytest.mark.parametrize("beside", [True, False])
def test_a_pickle_in_a_model_folder_is_never_read(
    trained: Trained, model_folder: Path, canary: Path, name: str, beside: bool
) -> None:
    """Beside the safetensors it is passed over; in place of them the folder is refused."""
    (model_folder / name).write_bytes(evil_zip(canary))
    if beside:
        check_model(trained.model, model_folder)
        return
    (model_folder / "model.safetensors").unlink()
    with pytest.raises(ParityError, match=r"no model\.safetensors"):
        check_model(trained.model, model_folder)


def test_an_index_of_shards_names_no_file_elsewhere(trained: Trained, model_folder: Path, canary: Path) -> None:
    """Weights by an index that leads out of the folder, to a pickle."""
    canary.with_name("evil.bin").write_bytes(evil_pickle(canary))
    (model_folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": dict.fromkeys(MODERNBERT.weights(trained.model), "../evil.bin")}
    (model_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ParityError, match=r"no model\.safetensors"):
        check_model(trained.model, model_folder)


@pytest.mark.parametrize(
    "text", ["../x", "/etc/passwd", "os.system", "cola/../../x", "\0", "glue/../../../x", "__init__"]
)
def test_no_name_becomes_a_path_or_a_module(text: str, tmp_path: Path) -> None:
    """Of tasks, presets, kinds, runs and sizes: what is not known is refused by name."""
    with pytest.raises(UsageError):
        parse_tasks(text, tmp_path)
    with pytest.raises(UsageError):
        presets.find(text)
    if text != "os.system":  # a file may be called that
        with pytest.raises(UsageError):
            check_name(text)
    assert text not in KINDS
    for command in (["run", text, "--budget", "1steps"], ["run", "--size", text, "--budget", "1steps"]):
        with pytest.raises(SystemExit) as ended, contextlib.redirect_stderr(io.StringIO()):
            main(command)
        assert ended.value.code in (2, 3)


def test_a_user_file_is_executed_for_its_flag_only(
    canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A .py file beside the recipe, under the name of a part, or as the preset: none is a part without --part."""
    (tmp_path / "muon2.py").write_text(f"from pathlib import Path\nPath({str(canary)!r}).touch()\n")
    monkeypatch.chdir(tmp_path)
    for command in (["show", "modern", "--set", "optimizer=muon2"], ["show", "./muon2.py"], ["run", "muon2.py"]):
        with pytest.raises(SystemExit) as ended, contextlib.redirect_stderr(io.StringIO()):
            main(command)
        assert ended.value.code in (2, 3)


def test_a_name_in_a_corpus_is_no_path_and_no_address(tmp_path: Path) -> None:
    """Ids of documents are names below the corpus, and only the prefix `hub:` asks the network."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("a;touch canary.txt", "$(touch canary).txt", "{{7}}.txt", "a\nb.txt", "hub:x.txt"):
        (folder / name).write_text("Some words for a line.\n")
    found = list(Files(path=str(folder)).documents(DropCounter()))
    assert len(found) == 5 and not any(str(tmp_path) in document.id for document in found)
    for text in (
        "hub:",
        "hub::",
        "http://example.invalid/x.txt",
        "s3://bucket/x",
        "file:///etc/passwd",
        "|touch canary",
    ):
        with pytest.raises(GpudayError):
            list(parse_source(text).documents(DropCounter()))
