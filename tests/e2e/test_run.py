"""The whole way in one command: text in, an encoder out, with the evidence."""

import contextlib
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from gpuday.cli import main
from gpuday.core.journal import Start, Step, read
from gpuday.core.rundir import RunDir, read_json
from gpuday.data.tokenfile import TokenStore
from gpuday.train.trained import load_trained


@dataclass(frozen=True)
class Ran:
    """A command that was given."""

    run: RunDir
    arguments: list[str]
    code: object
    events: list[dict[str, Any]]
    err: str
    seconds: float


def gpuday(run: RunDir, arguments: list[str]) -> Ran:
    """Call the command line in this process."""
    out, err, began = io.StringIO(), io.StringIO(), time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(arguments)
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    return Ran(run, arguments, ended.value.code, events, err.getvalue(), time.monotonic() - began)


@pytest.fixture(scope="module", params=["modern", "bert"])
def ran(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_toml: Callable[..., str]
) -> Iterator[Ran]:
    """`gpuday run` of a tiny preset, once for all of these tests."""
    place = tmp_path_factory.mktemp(request.param)
    (place / "tiny.toml").write_text(tiny_toml(base=request.param, budget="4steps"))
    run = RunDir(place / "runs" / "first")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPUDAY_CACHE", str(place / "cache"))
        patch.setenv("XDG_CACHE_HOME", str(place / "home"))
        yield gpuday(run, ["run", str(place / "tiny.toml"), "--tasks", "none", "--out", str(run.root)])


def test_the_command_succeeds_and_tells_every_room(ran: Ran) -> None:
    """Exit code 0, nothing on standard error, the rooms in their order."""
    assert (ran.code, ran.err) == (0, "")
    kinds = [e["event"] for e in ran.events]
    order = ["run", "prepared", "fit", "start", "trained", "heldout", "export", "report"]
    assert [k for k in kinds if k in order] == order


def test_every_file_of_a_run_is_there(ran: Ran) -> None:
    """As the design lists them."""
    files = [
        *("recipe.json", "environment.json", "journal.jsonl", "summary.json", "report.html", "fit.json"),
        *(f"data/{name}" for name in ("tokenizer.json", "manifest.json", "drops.json", "train.tok/index.json")),
        "data/heldout.tok/index.json",
        *(f"checkpoints/step-00000004/{n}.safetensors" for n in ("model", "optimizer")),
        *(f"checkpoints/{n}" for n in ("step-00000004/state.json", "step-00000004/manifest.json", "LATEST")),
        *(f"model/{name}" for name in ("config.json", "model.safetensors", "tokenizer.json", "README.md")),
    ]
    assert [name for name in files if not (ran.run.root / name).is_file()] == []


def test_nothing_temporary_is_left(ran: Ran) -> None:
    """No file of a write that was in progress."""
    assert [p.name for p in ran.run.root.rglob("*") if "tmp" in p.name or p.name.endswith((".part", ".old"))] == []


def test_no_file_of_a_run_is_a_pickle(ran: Ran) -> None:
    """Neither a raw one nor one in a zip, in the run and in its data."""
    for folder in (ran.run.root, ran.run.data.resolve()):
        for path in folder.rglob("*"):
            if path.is_file():
                assert path.read_bytes()[:2] not in (b"PK", b"\x80\x04", b"\x80\x02")


@pytest.mark.parametrize(
    ("section", "keys"),
    [
        ("clock", "budget budget_seconds used_seconds ledger"),
        ("train", "tokens tokens_processed steps epochs tokens_per_second flops useful_flops_per_second bound_share"),
        ("model", "architecture size parameters trunk_parameters flops_per_token max_length"),
        ("heldout", "nats_per_token word_bits_per_byte before by_source"),
        ("export", "kind parity_max_abs"),
        ("", "clock train model heldout scores export compliance device device_seconds energy_joules seed resumes"),
        ("", "recipe_fingerprint"),
    ],
)
def test_the_summary_has_the_keys_that_others_read(ran: Ran, section: str, keys: str) -> None:
    """Stable keys of the design's third section, `scores` too where no task was asked for."""
    summary = read_json(ran.run.summary)
    table = summary[section] if section else summary
    assert [key for key in keys.split() if key not in table] == []


def test_the_summary_tells_a_run_that_learned(ran: Ran) -> None:
    """Figures in their ranges: a loss that fell, bits above zero, a ledger that adds up."""
    summary = read_json(ran.run.summary)
    heldout, clock = summary["heldout"], summary["clock"]
    assert 0 < heldout["nats_per_token"] < 7
    assert heldout["word_bits_per_byte"] > 0
    assert sum(clock["ledger"].values()) == pytest.approx(clock["used_seconds"])
    assert summary["train"]["steps"] == 4
    assert summary["samples"]


def test_the_model_opens_in_transformers_and_gives_the_trained_logits(ran: Ran) -> None:
    """A native class, no remote code; on held-out rows its logits are ours, to fp32 rounding."""
    from transformers import AutoModelForMaskedLM

    model = AutoModelForMaskedLM.from_pretrained(ran.run.model).eval()
    trained = load_trained(ran.run.root)
    ids = torch.from_numpy(TokenStore.open(ran.run.data / "heldout.tok").rows(np.arange(4)))
    with torch.inference_mode():
        theirs = model(input_ids=ids).logits
        ours = trained.model(ids.to(trained.device)).view(*theirs.shape).cpu()
    assert type(model).__name__ == {"modern": "ModernBertForMaskedLM", "bert": "BertForMaskedLM"}[trained.recipe.preset]
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)


def test_the_tokenizer_opens_in_transformers_and_gives_the_trained_ids(ran: Ran) -> None:
    """Text to the same ids, the mask included."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(ran.run.model)
    own = load_trained(ran.run.root).tokenizer
    text = "These rafols gitret this luplol."
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == list(own.encode_batch([text])[0])
    assert tokenizer.mask_token_id == own.mask_id


def test_the_report_names_its_run_and_asks_for_nothing(ran: Ran) -> None:
    """One page with the figures of the summary, without an address to load from."""
    page = ran.run.report.read_text()
    assert ran.run.root.name in page
    assert f"{read_json(ran.run.summary)['heldout']['nats_per_token']:.3f}" in page
    assert '<script src="http' not in page and '<link rel="stylesheet" href="http' not in page


def test_the_same_command_again_trains_nothing(ran: Ran) -> None:
    """The same exit code, a fraction of the time, and not one byte of training, clock or weights is another."""
    kept = [ran.run.recipe, ran.run.journal, ran.run.fit, ran.run.heartbeat]
    kept += [p for p in ran.run.checkpoints.rglob("*") if p.is_file()]
    before, summary = {p: p.read_bytes() for p in kept}, read_json(ran.run.summary)
    again = gpuday(ran.run, ran.arguments)
    assert again.code == 0
    assert not {"start", "step", "validation", "fit", "prepared"} & {e["event"] for e in again.events}
    assert {p: p.read_bytes() for p in kept} == before
    later = read_json(ran.run.summary)
    assert {k: later[k] for k in ("clock", "train", "model", "device_seconds", "resumes")} == {
        k: summary[k] for k in ("clock", "train", "model", "device_seconds", "resumes")
    }
    assert later["heldout"] == summary["heldout"]


def test_the_journal_tells_one_attempt_of_four_steps(ran: Ran) -> None:
    """Also after the same command was given again."""
    rows = list(read(ran.run.journal))
    assert {attempt for attempt, _ in rows} == {1}
    assert len([r for _, r in rows if isinstance(r, Start)]) == 1
    assert [r.step for _, r in rows if isinstance(r, Step)] == [1, 2, 3, 4]


def test_another_command_makes_the_same_weights(ran: Ran) -> None:
    """A step budget repeats to the bit: the recipe that the run stored, in a folder of its own, from the cache."""
    other = RunDir(ran.run.root.with_name("second"))
    again = gpuday(other, ["train", ran.arguments[1], "--out", str(other.root)])
    assert again.code == 0
    name = "checkpoints/step-00000004/model.safetensors"
    assert (other.root / name).read_bytes() == (ran.run.root / name).read_bytes()
