"""A trained run as a Hugging Face folder, in the native class that holds its recipe exactly, or why none does.

Where the objective leaves no head that predicts a masked token at its own position, the folder holds the encoder alone.
The folder is built beside its place, loaded there as any user would load it, compared with the trained model, and only
then moved into place: a folder that is there has passed.
"""

import os
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from gpuday.core import config
from gpuday.core.rundir import read_json, write_atomic, write_json
from gpuday.export.bert import BERT
from gpuday.export.card import write_card
from gpuday.export.modernbert import MODERNBERT
from gpuday.export.native import Native, Specials
from gpuday.export.parity import check_model
from gpuday.export.place import CARD, replacing
from gpuday.export.tokenizer import check_tokenizer, write_tokenizer
from gpuday.models.encoder import EncoderConfig
from gpuday.models.heads import MaskedLM
from gpuday.objectives import Learner
from gpuday.train.trained import Trained, load_trained

NATIVES: tuple[Native, ...] = (MODERNBERT, BERT)
FILES = {
    CARD,
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


def export(run: Path | Trained, folder: Path | None = None) -> dict[str, Any]:
    """Write a run's model to `folder` (by default the run's `model/`) and return the summary's `export` section.

    {kind: "modernbert" | "bert", architecture, parity_max_abs, rows, max_length, folder, transformers, obstacles: {},
    reason}. The architecture is a class of Transformers; if it is one without a head for masked tokens, `reason` says
    why. Where no native class holds the recipe nothing is written, kind, architecture, parity_max_abs and folder are
    None, and `obstacles` says for each class which axes do not fit. Raises ParityError, an internal fault, when the folder is not the model,
    and UsageError when `folder` exists and holds anything but an earlier export.
    """
    import transformers

    trained = run if isinstance(run, Trained) else load_trained(run)
    place = trained.run.model if folder is None else folder
    headless = why_headless(trained.model, trained.predictor)
    native, obstacles = choose(trained.model.config, head=not headless)
    section: dict[str, Any] = {
        "kind": None,
        "architecture": None,
        "parity_max_abs": None,
        "rows": 0,
        "max_length": trained.model.length,
        "folder": None,
        "transformers": transformers.__version__,
        "obstacles": obstacles,
        "reason": reason(obstacles),
    }
    if native is None:
        return section
    with replacing(place, FILES) as building:
        _write(trained, native, building, head=not headless)
        check_tokenizer(trained.tokenizer, building)
        section |= check_model(trained.model, building, head=not headless)
        section |= {"kind": native.kind, "folder": os.fspath(place), "obstacles": {}, "reason": headless}
        section["architecture"] = native.encoder if headless else native.masked_lm
        _write_card(trained, section, building)
    return section


def foreseen(learner: Learner) -> str:
    """What an export of this learner will leave out or refuse, in one sentence; empty where it will be whole.

    Of a learner on the meta device too: nothing but its configs is looked at.
    """
    headless = why_headless(learner.model, learner.predictor)
    native, obstacles = choose(learner.model.config, head=not headless)
    return headless if native else reason(obstacles)


def why_headless(model: MaskedLM, predictor: MaskedLM) -> str:
    """Why a folder can hold the model's encoder alone; empty where it has a head that Transformers' classes compute."""
    if predictor is not model:
        return (
            "the encoder alone: another model predicted the masked tokens, held-out ones too, and this one's head for "
            "them was not trained"
        )
    if model.shifted:
        return (
            "the encoder alone: it was trained to predict a token from the position before it, which no class of "
            "Transformers for masked tokens does"
        )
    return ""


def choose(encoder: EncoderConfig, *, head: bool = True) -> tuple[Native | None, dict[str, list[str]]]:
    """The first native class that holds the config, or None; and for each class that does not, its obstacles."""
    obstacles = {native.kind: native.obstacles(encoder, head=head) for native in NATIVES}
    chosen = next((native for native in NATIVES if not obstacles[native.kind]), None)
    return chosen, {kind: found for kind, found in obstacles.items() if found}


def reason(obstacles: dict[str, list[str]]) -> str:
    """One sentence for the screen: the class with the fewest obstacles, and these; empty without any. Whoever wants an
    export changes the axes of one class, and the others' would only be read for nothing."""
    nearest = min(obstacles.items(), key=lambda item: len(item[1]), default=("", []))
    return f"not {nearest[0]}: {', '.join(nearest[1])}" if nearest[1] else ""


def _write(trained: Trained, native: Native, folder: Path, *, head: bool) -> None:
    """config.json, model.safetensors and the tokenizer's files."""
    import transformers

    model, tokenizer = trained.model, trained.tokenizer
    specials = Specials(pad=tokenizer.pad_id, cls=tokenizer.cls_id, sep=tokenizer.sep_id)
    write_json(folder / "config.json", native.config(model, specials, version=transformers.__version__, head=head))
    save_file(native.weights(model, head=head), folder / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer(tokenizer, folder, length=model.length)


def _write_card(trained: Trained, section: dict[str, Any], folder: Path) -> None:
    summary = read_json(trained.run.summary) if trained.run.summary.exists() else {}
    recipe = config.to_dict(trained.recipe)
    text = write_card(name=trained.run.root.resolve().name, recipe=recipe, summary=summary, export=section)
    write_atomic(folder / CARD, text.encode())
