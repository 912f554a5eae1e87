"""Files from strangers: whatever a checkpoint, a recipe, a tokenizer or a token store holds, none of it is executed.

Each file below would make a canary file if anything in it ran. Each case is refused with an error that names its fix, or
is read as the harmless data that it also is; in neither case is the canary there afterwards, nor anything outside of the
run's folder changed. All of them are read under an audit hook that counts what is executed, unpickled or started.
"""

import json
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import xxhash

from gpuday.core import config
from gpuday.core.errors import DataError, GpudayError, UsageError
from gpuday.core.rundir import read_json
from gpuday.data.arrayfile import open_array, write_array
from gpuday.data.tokenfile import TokenStore
from gpuday.data.tokenizer import TextTokenizer
from gpuday.recipe import Recipe
from gpuday.train import checkpoint
from loading import load

support = load(Path(__file__).parent / "canary.py")
canary, tokenizer = support.canary, support.tokenizer  # fixtures are found by their names
PLAIN, evil_pickle, evil_zip = support.PLAIN, support.evil_pickle, support.evil_zip


def test_the_canary_would_have_sung(tmp_path: Path) -> None:
    """The witness itself: a pickle that is read makes the file, and the hook sees the look-up of its class."""
    seen = support.watch()
    pickle_of = support.pickle  # nothing else in the tests loads one
    pickle_of.loads(evil_pickle(tmp_path / "canary"))
    assert (tmp_path / "canary").exists()
    assert [event for event, _ in seen] == ["pickle.find_class"] * len(seen) and seen
    assert seen is support.unwatch()


def tensors(header: dict[str, Any] | bytes, body: bytes = b"\0" * 64) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def tensor(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


EVIL_TENSORS: dict[str, Callable[[Path], bytes]] = {
    "pickle": evil_pickle,
    "zip of a pickle": evil_zip,
    "offsets beyond the end": lambda _: tensors({"w": tensor([1000], 0, 4000)}),
    "offsets the wrong way round": lambda _: tensors({"w": tensor([16], 64, 0)}),
    "tensors that overlap": lambda _: tensors({"a": tensor([16], 0, 64), "b": tensor([8], 32, 64)}),
    "a hole": lambda _: tensors({"w": tensor([8], 32, 64)}),
    "a huge shape": lambda _: tensors({"w": tensor([1 << 40, 1 << 40], 0, 64)}),
    "a negative shape": lambda _: tensors({"w": tensor([-16], 0, 64)}),
    "a dtype that is none": lambda _: tensors({"w": tensor([16], 0, 64, "O")}),
    "a header of 100 MB": lambda _: tensors(b'{"__metadata__":{"a":"' + b"x" * 100_000_001 + b'"}}', b""),
    "a header longer than the file": lambda _: struct.pack("<Q", 1 << 62) + b"{}",
    "a header that is no JSON": lambda _: tensors(b"__import__('os').system('true')"),
    "a deep header": lambda _: tensors(b'{"a":' * 100_000),
    "nothing": lambda _: b"",
}  # fmt: skip
STATES: dict[str, bytes] = {
    "a class": json.dumps(
        {"__class__": "os.system", "py/object": "subprocess.Popen", "progress": {"final": 1}}
    ).encode(),
    "a list": b"[1, 2]",
    "deep": b"[" * 100_000,
    "no JSON": b"\x80\x04.",
}


def save_checkpoint(root: Path, step: int) -> Path:
    weights = {"model.w": torch.full((4,), float(step))}
    return checkpoint.save(root, step, model=weights, optimizer={}, state={"progress": {"final": None}, "step": step})


def reseal(folder: Path, **files: bytes) -> None:
    """Put other files into a checkpoint with a manifest that vouches for them, as a stranger would."""
    names = {"model": checkpoint.MODEL, "optimizer": checkpoint.OPTIMIZER, "state": checkpoint.STATE}
    for key, data in files.items():
        (folder / names[key]).write_bytes(data)
    listing = {}
    for name in names.values():
        data = (folder / name).read_bytes()
        listing[name] = {"bytes": len(data), "xxh3_128": xxhash.xxh3_128_hexdigest(data)}
    write_manifest(folder, {"step": int(folder.name.partition("-")[2]), "files": listing})


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, sort_keys=True)
    sealed = {"content": content, "xxh3_128": xxhash.xxh3_128_hexdigest(text.encode())}
    (folder / checkpoint.MANIFEST).write_bytes(json.dumps(sealed, sort_keys=True).encode())


def falls_back(root: Path) -> None:
    """The checkpoint of step 2 is set aside with a reason, and step 1 is taken."""
    warnings: list[str] = []
    saved = checkpoint.load_newest(root, warn=warnings.append)
    assert saved is not None and saved.folder.name == "step-00000001"
    assert len(warnings) == 1 and "damaged (" in warnings[0]


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """Two whole ones."""
    root = tmp_path / "checkpoints"
    for step in (1, 2):
        save_checkpoint(root, step)
    return root


@pytest.mark.parametrize(
    ("which", "name"),
    [
        (which, name)
        for which in ("model", "optimizer")
        for name in EVIL_TENSORS
        if which == "model" or "100" not in name
    ],
)
def test_evil_tensors_are_set_aside(checkpoints: Path, canary: Path, which: str, name: str) -> None:
    """With a manifest whose checksums are right: the file is no safetensors, and the checkpoint before is taken."""
    reseal(checkpoints / "step-00000002", **{which: EVIL_TENSORS[name](canary)})
    falls_back(checkpoints)


@pytest.mark.parametrize("name", [n for n in STATES if n != "a class"])
def test_an_evil_state_is_set_aside(checkpoints: Path, canary: Path, name: str) -> None:
    """With right checksums: no table of JSON values."""
    reseal(checkpoints / "step-00000002", state=STATES[name])
    falls_back(checkpoints)


def test_a_state_that_names_classes_is_plain_values(checkpoints: Path, canary: Path) -> None:
    """Nothing looks at such keys."""
    reseal(checkpoints / "step-00000002", state=STATES["a class"])
    saved = checkpoint.load_newest(checkpoints, warn=pytest.fail)
    assert saved is not None and saved.state == json.loads(STATES["a class"])


@pytest.mark.parametrize("name", ["../../outside", "/etc/passwd", "model.safetensors/../../outside"])
def test_a_manifest_names_no_file_elsewhere(checkpoints: Path, canary: Path, tmp_path: Path, name: str) -> None:
    """Instead of ours, or beside them: it is not read, and not removed."""
    (tmp_path / "outside").write_bytes(b"precious")
    folder = checkpoints / "step-00000002"
    listing = {name: {"bytes": 8, "xxh3_128": xxhash.xxh3_128_hexdigest(b"precious")}}
    write_manifest(folder, {"step": 2, "files": listing})
    falls_back(checkpoints)
    assert (tmp_path / "outside").read_bytes() == b"precious"


@pytest.mark.parametrize("pointer", ["../../outside", "/etc", "step-00000002/../../outside", "\x1b[2J"])
def test_latest_leads_nowhere(checkpoints: Path, canary: Path, tmp_path: Path, pointer: str) -> None:
    """The newest whole checkpoint of the folder is taken, whatever LATEST says."""
    outside = tmp_path / "outside"
    shutil.copytree(checkpoints / "step-00000001", outside)
    content = {"folder": pointer}
    text = json.dumps(content, sort_keys=True)
    sealed = {"content": content, "xxh3_128": xxhash.xxh3_128_hexdigest(text.encode())}
    (checkpoints / "LATEST").write_bytes(json.dumps(sealed, sort_keys=True).encode())
    saved = checkpoint.load_newest(checkpoints, warn=lambda _: None)
    assert saved is not None and saved.folder == checkpoints / "step-00000002"


def test_what_a_link_among_the_checkpoints_leads_to_is_never_removed(checkpoints: Path, tmp_path: Path) -> None:
    """Linked as a step, as something half-written and as something set aside: pruning and clearing take the link only."""
    outside = tmp_path / "outside"
    shutil.copytree(checkpoints / "step-00000001", outside)
    before = {p.name: p.read_bytes() for p in outside.iterdir()}
    for name in ("step-00000000", ".tmp-00000009-1", ".old-00000008-1"):
        (checkpoints / name).symlink_to(outside, target_is_directory=True)
    for step in (3, 4, 5):
        checkpoint.load_newest(checkpoints, warn=lambda _: None)
        save_checkpoint(checkpoints, step)
    checkpoint.load_newest(checkpoints, warn=lambda _: None)
    assert {p.name: p.read_bytes() for p in outside.iterdir()} == before


NAMES = (
    *(
        "os.system",
        "builtins.eval",
        "../x",
        "../../../tmp/x",
        "/etc/passwd",
        "__init__",
        "__class__",
        "_groups",
        "adamw.os",
    ),
    *(
        "adamw\0",
        "gpuday.optim.adamw",
        "subprocess",
        "",
        ".",
        "..",
        "adamw/../muon",
        "muon:Muon",
        "os;system",
        "\u202eadamw",
    ),
)


@pytest.mark.parametrize("kind", ["optimizer", "rate", "objective"])
@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_names_only_parts_that_ship(canary: Path, kind: str, name: str) -> None:
    """Modules of other packages, private ones, paths and special names are unknown parts; nothing is imported for them."""
    before = set(sys.modules)
    with pytest.raises(UsageError):
        config.from_dict(Recipe, {**PLAIN, kind: {"part": name}})
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "changes",
    [
        {f"k{i}": i for i in range(1_000_000)},
        {"__class__": "os.system"},
        {"preset": ["x"]},
        {"data": {**PLAIN["data"], "corpus": [{"__reduce__": "x"}]}},
        {"optimizer": {"part": {"part": "adamw"}}},
        {"budget": {"amount": 1e400, "unit": "steps"}},
        {"seed": 10**5000},
        {"model": "x" * 1_000_000},
    ],
    ids=[
        "a million keys",
        "a class",
        "a list",
        "a table as text",
        "a table as a name",
        "infinity",
        "a long integer",
        "long",
    ],
)
def test_a_recipe_is_a_recipe_or_refused(canary: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    """From the file, as a resume reads it: a usage error of a size that a screen can show."""
    (tmp_path / "recipe.json").write_text(json.dumps({**PLAIN, **changes}, default=str) if "seed" not in changes else
                                          json.dumps(PLAIN).replace('"seed": 0', f'"seed": 1{"0" * 5000}'))  # fmt: skip
    with pytest.raises(GpudayError) as refused:
        config.from_dict(Recipe, read_json(tmp_path / "recipe.json"))
    assert refused.value.exit_code in (2, 3)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: {**t, "pre_tokenizer": {"type": "Custom", "module": "os", "function": "system"}},
        lambda t: {**t, "normalizer": {"type": "Python", "code": "open('canary','w')"}},
        lambda t: {**t, "model": {"type": "Custom"}},
        lambda t: {**t, "model": {**t["model"], "vocab": {}}},
        lambda t: {**t, "model": {**t["model"], "merges": [["a", "b"]] * 10}},
        lambda t: {**t, "decoder": {"type": "Sequence", "decoders": [{"type": "Custom"}]}},
        lambda t: {"auto_map": {"AutoTokenizer": "evil.Evil"}, **{k: v for k, v in t.items() if k != "model"}},
        lambda t: [t],
        lambda t: json.loads('{"a":' * 200 + "1" + "}" * 200),
        lambda t: {},
    ],
)  # fmt: skip
def test_an_evil_tokenizer_is_refused(
    canary: Path, tmp_path: Path, tokenizer: TextTokenizer, spoil: Callable[[Any], Any]
) -> None:
    """Components that are code, that nobody knows, or that do not fit each other: a data error with a fix."""
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(spoil(json.loads(tokenizer.tokenizer.to_str()))))
    with pytest.raises(DataError) as refused:
        TextTokenizer.load(path)
    assert refused.value.fix


@pytest.mark.parametrize("data", [b"[" * 1_000_000, b"\xff\xfe\0", b"", b"null", b'{"version": "9.0"}'])
def test_what_is_no_tokenizer_is_refused(canary: Path, tmp_path: Path, data: bytes) -> None:
    """Deep, no UTF-8, empty, of another version; and a pickle."""
    for content in (data, evil_pickle(canary)):
        (tmp_path / "tokenizer.json").write_bytes(content)
        with pytest.raises(DataError):
            TextTokenizer.load(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("dtype", ["|O", "O", "<U8", "|V8", "<M8[s]", "object", [["a", "|O"]], "i4,O"])
def test_an_array_file_holds_numbers_only(canary: Path, tmp_path: Path, dtype: Any) -> None:
    """Objects, strings and records: numpy would read pointers, or pickles."""
    path = tmp_path / "a.bin"
    write_array(path, [torch.arange(8).numpy()], "<i8")
    raw = path.read_bytes()
    header = {k: v for k, v in json.loads(raw[:1024]).items() if k != "checksum"} | {"dtype": dtype}
    text = json.dumps(header, sort_keys=True, separators=(",", ":"))
    sealed = json.dumps(
        {**header, "checksum": xxhash.xxh3_128_hexdigest(text.encode())}, separators=(",", ":")
    ).encode()
    path.write_bytes(sealed.ljust(1023) + b"\n" + raw[1024:])
    with pytest.raises(DataError):
        open_array(path)


def test_a_store_is_not_followed_out_of_its_folder(canary: Path, tmp_path: Path) -> None:
    """train.tok as a link to /etc, and an index that names files above it."""
    (tmp_path / "train.tok").symlink_to("/etc", target_is_directory=True)
    with pytest.raises(DataError):
        TokenStore.open(tmp_path / "train.tok")
    folder = tmp_path / "b.tok"
    folder.mkdir()
    for name in ("../outside.bin", "/dev/zero", "/etc/passwd"):
        shard = {
            "file": name,
            "documents_file": name,
            "rows": 1,
            "documents": 1,
            "source": 0,
            "xxh3": "",
            "documents_xxh3": "",
        }
        index = {"format": 1, "dtype": "<u2", "length": 8, "vocabulary": "v", "sources": ["s"], "shards": [shard]}
        index |= {"rows": 1, "tokens": 8, "documents": 1}
        text = json.dumps(index, sort_keys=True, separators=(",", ":"))
        sealed = {**index, "checksum": xxhash.xxh3_128_hexdigest(text.encode())}
        (folder / "index.json").write_text(json.dumps(sealed, separators=(",", ":")))
        with pytest.raises(DataError, match="files of shard 0"):
            TokenStore.open(folder)
