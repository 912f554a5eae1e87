"""The files of a Hugging Face model folder, checked before anything is loaded: safetensors, no code, an encoder.

A model that stands in the hub's cache on this machine is found by its name; nothing is asked of the network.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from gpuday.core.errors import DataError
from gpuday.core.rundir import read_json
from gpuday.train.device import first_line

T = TypeVar("T")
CONFIG, WEIGHTS, INDEX, MODULES = "config.json", "model.safetensors", "model.safetensors.index.json", "modules.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
SAVE_AGAIN = (
    "load it where you trust it and save it again: AutoModelForMaskedLM.from_pretrained(...).save_pretrained(...)"
)
WANTED = "give the folder of an encoder, such as BERT, RoBERTa, ModernBERT, DeBERTa or ELECTRA"
# Of a config: nothing larger is built, whoever wrote it.
MOST = {"num_hidden_layers": 1000, "hidden_size": 1 << 16, "intermediate_size": 1 << 18, "vocab_size": 1 << 22}
_MOST_OF_SOME = {"max_position_embeddings": 1 << 20, "type_vocab_size": 1 << 16, "embedding_size": 1 << 16}
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def is_huggingface(folder: Path) -> bool:
    """Whether a folder holds a Hugging Face model, its own or one inside a sentence-transformers folder."""
    return any((folder / name).is_file() for name in (CONFIG, MODULES))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Transformers without progress bars and load reports: a classification head is new, which it says at length."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def find_folder(name: Path) -> Path:
    """The folder with the transformer's config: of a folder, or of a model in the hub's cache where there is no such folder."""
    return _transformer_folder(name if name.is_dir() else _cached(name))


def read_config(folder: Path) -> Any:
    """The config of an encoder whose weights are safetensors."""
    import transformers

    path = folder / CONFIG
    if not path.is_file():
        raise DataError(f"{folder} has no {CONFIG}", fix=WANTED)
    settings = guarded(
        path,
        "a config that Transformers reads",
        lambda: transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False),
    )
    kind = type(settings)
    only_causal = (
        kind in transformers.MODEL_FOR_CAUSAL_LM_MAPPING and kind not in transformers.MODEL_FOR_MASKED_LM_MAPPING
    )
    if settings.is_encoder_decoder or only_causal or getattr(settings, "is_decoder", False):
        what = "an encoder and a decoder" if settings.is_encoder_decoder else "a decoder"
        raise DataError(f"{settings.model_type} is {what}, not an encoder alone", where=str(path), fix=WANTED)
    for key, most in {**MOST, **_MOST_OF_SOME}.items():
        value = getattr(settings, key, None)
        if value is not None and (type(value) is not int or not 0 <= value <= most):
            raise DataError(f"{key} is not a number from 0 to {most:,}", where=str(path), fix=WANTED)
    _check_weights(folder)
    return settings


def fast_tokenizer(folder: Path) -> Any:
    """The tokenizer of Transformers in a folder. Raises DataError for one that is slow, or lacks what is needed here."""
    import transformers

    tokenizer = guarded(
        folder,
        "a tokenizer that Transformers reads",
        lambda: transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False),
    )
    if not getattr(tokenizer, "is_fast", False):
        raise DataError(f"{folder} has no fast tokenizer", fix="save one there: a tokenizer.json")
    for role in ("pad", "mask"):
        if getattr(tokenizer, f"{role}_token_id") is None:
            raise DataError(f"the tokenizer has no {role} token", where=str(folder), fix=f"name the {role}_token in it")
    return tokenizer


def guarded(where: Path, what: str, use: Callable[[], T]) -> T:
    """What `use` returns; a DataError for everything that the libraries make of a damaged folder. Too little memory is no
    fault of the folder.

    The panics of `tokenizers` are no subclass of Exception.
    """
    try:
        with quiet():
            return use()
    except BaseException as error:
        panic = type(error).__name__ == "PanicException"
        if isinstance(error, MemoryError) or not (isinstance(error, Exception) or panic):
            raise
        raise DataError(f"{where} does not hold {what}: {first_line(error)}", fix=WANTED) from error


def _cached(name: Path) -> Path:
    """The folder of the hub's cache on this machine that holds a model by this name; nothing is fetched."""
    text = name.as_posix()
    if not _HUB_NAME.fullmatch(text):
        raise DataError(f"there is no folder {text}", fix=WANTED)
    from transformers.utils import cached_file

    try:
        with quiet():
            found = cached_file(text, CONFIG, local_files_only=True)
    except OSError as error:
        raise DataError(
            f"there is no folder {text}, and no model of this name in the Hugging Face cache",
            fix=f"give a folder; a model of the hub is fetched by: hf download {text}",
        ) from error
    assert found is not None, "a file that is not there is an error"
    return Path(found).parent


def _transformer_folder(folder: Path) -> Path:
    """The folder itself, or the transformer's inside of a sentence-transformers folder."""
    if not (folder / MODULES).is_file():
        return folder
    if (inside := module_folder(folder, "Transformer")) is None:
        raise DataError("no transformer stands in the list of modules", where=str(folder / MODULES), fix=WANTED)
    return inside


def module_folder(folder: Path, kind: str) -> Path | None:
    """Where the first module of a kind lies in a sentence-transformers folder; None where its list has none."""
    where = str(folder / MODULES)
    try:
        modules = ((str(m["path"]), str(m["type"])) for m in read_json(folder / MODULES))
        path = next((path for path, name in modules if name.rsplit(".", 1)[-1] == kind), None)
    except (TypeError, KeyError) as error:
        raise DataError("the list of modules is damaged", where=where, fix=WANTED) from error
    if path is None:
        return None
    inside = (folder / path).resolve()
    if not inside.is_relative_to(folder.resolve()):
        raise DataError(f"a module lies outside of the folder: {path}", where=where, fix=WANTED)
    return inside


def _check_weights(folder: Path) -> None:
    if (folder / WEIGHTS).is_file():
        return
    if (folder / INDEX).is_file():
        index = read_json(folder / INDEX)
        named = set(index.get("weight_map", {}).values()) if isinstance(index, dict) else set()
        # An index may name files elsewhere, and files that are pickles.
        wrong = [name for name in named if Path(name).name != name or not name.endswith(".safetensors")]
        if wrong or not named or not all((folder / name).is_file() for name in named):
            raise DataError(
                "the index names no files of weights in this folder", where=str(folder / INDEX), fix=SAVE_AGAIN
            )
        return
    if any((folder / name).is_file() for name in PICKLES):
        raise DataError(
            "the weights are a pickle, which can run any code when it is read", where=str(folder), fix=SAVE_AGAIN
        )
    raise DataError(f"{folder} has no {WEIGHTS}", fix=WANTED)
