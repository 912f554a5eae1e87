"""A catalogue of mistakes: each with what stands on the disk, the command, its exit code, and what the answer says.

Paths are relative to the folder of the command, in which `tiny.toml`, `text.txt` and the runs `runs/done` (finished)
and `runs/begun` (prepared) stand.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Disk = Callable[[Path], object]
PREPARE = ("prepare", "tiny.toml", "--out", "runs/x")
AGAIN = ("train", "tiny.toml", "--out", "runs/done")
SHOW = ("show", "tiny.toml")
SCORE = ("evaluate", "runs/done", "--tasks", "cola", "--task-data", "glue")
PARTS = ("list", "schedule", "--part")
ALONE = ("train", "tiny.toml", "--out", "runs/x")
SCHEDULE = """
from dataclasses import dataclass
from gpuday.schedules import Schedule

@dataclass(frozen=True, kw_only=True)
class {}(Schedule):
    def __call__(self, fraction: float) -> float:
        return 1.0
"""


@dataclass(frozen=True)
class Mistake:
    """One case; `mended` is the command that the answer leads to, where that is a command."""

    name: str
    command: tuple[str, ...]
    code: int
    said: tuple[str, ...]
    disk: Disk = lambda place: None
    environment: dict[str, str] = field(default_factory=dict)
    mended: tuple[str, ...] = ()


def write(name: str, content: str | bytes) -> Disk:
    """A file."""

    def make(place: Path) -> None:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def cola(content: str, *names: str) -> Disk:
    """The files of one task."""

    def make(place: Path) -> None:
        for name in names or ("train.jsonl", "dev.jsonl"):
            write(f"glue/CoLA/{name}", content)(place)

    return make


def bare_tokenizer(place: Path) -> None:
    """A tokenizer without special tokens."""
    from tokenizers import Tokenizer, models

    Tokenizer(models.BPE()).save(str(place / "bare.json"))


def fitted(**values: Any) -> Disk:
    """A run that was fitted with these values and ended before its first checkpoint."""

    def change(place: Path) -> None:
        folder = place / "runs" / "done"
        for name in ("summary.json", "journal.jsonl"):
            (folder / name).unlink()
        shutil.rmtree(folder / "checkpoints")
        fit = json.loads((folder / "fit.json").read_text())
        (folder / "fit.json").write_text(json.dumps(fit | values))

    return change


other_machine, more_cores = fitted(device="NVIDIA H100"), fitted(threads=4096)


def toml(content: str | bytes) -> Disk:
    return write("mine.toml", content)


MINE = ("show", "mine.toml")

PATHS = (
    Mistake("a corpus that is not there", (*PREPARE, "--corpus", "texts.txt"), 3,
            ("texts.txt does not exist", "did you mean 'text.txt'?"), mended=(*PREPARE, "--corpus", "text.txt")),
    Mistake("a corpus in a folder that is not there", (*PREPARE, "--corpus", "no/text.txt"), 3,
            ("no/text.txt does not exist", "the folder no is not there")),
    Mistake("a second corpus that is not there", (*PREPARE, "--corpus", "text.txt", "--corpus", "nope.txt"), 3,
            ("nope.txt does not exist",)),
    Mistake("a held-out text that is not there", (*PREPARE, "--heldout", "no.txt"), 3, ("no.txt", "--heldout")),
    Mistake("a folder without text", (*PREPARE, "--corpus", "empty"), 3, ("empty holds no text files", ".jsonl"),
            lambda place: (place / "empty").mkdir()),
    Mistake("a pattern that nothing matches", (*PREPARE, "--corpus", "*.jsonl"), 3,
            ("nothing matches *.jsonl", "check the pattern")),
    Mistake("a ~ that no shell opened", (*PREPARE, "--corpus", "~/text.txt"), 3,
            ("~/text.txt does not exist", "the shell opens ~ only outside of quotes")),
    Mistake("a blank behind a name", (*PREPARE, "--corpus", "text.txt "), 3,
            ("does not exist", "write 'text.txt'"), mended=(*PREPARE, "--corpus", "text.txt")),
    Mistake("an address of the web", (*PREPARE, "--corpus", "https://example.org/a.txt"), 3,
            ("https://example.org/a.txt", "download it first")),
    Mistake("a file of another kind", (*PREPARE, "--corpus", "tiny.toml"), 3, ("of no known kind", ".parquet")),
    Mistake("an empty file", (*PREPARE, "--corpus", "zero.txt"), 3, ("holds no text", "zero.txt"),
            write("zero.txt", "")),
    Mistake("a single line of text", (*PREPARE, "--corpus", "one.txt"), 3, ("single document", "--heldout"),
            write("one.txt", "one two three")),
    Mistake("bytes that are no text", (*PREPARE, "--corpus", "bin.txt"), 3, ("bin.txt", "convert the file to UTF-8"),
            write("bin.txt", bytes(range(256)) * 50)),
    Mistake("records without the field", (*PREPARE, "--corpus", "bad.jsonl"), 3, ("bad.jsonl", "no field 'text'"),
            write("bad.jsonl", '{"txt": "a"}\n' * 50)),
    Mistake("a built-in corpus misspelt", (*PREPARE, "--corpus", "pydcos"), 3, ("did you mean 'pydocs'?",)),
    Mistake("a corpus without a name", (*PREPARE, "--corpus", ""), 2, ("the corpus has no name", "name a file")),
    Mistake("a hub corpus without a name", (*PREPARE, "--corpus", "hub:"), 2, ("names no corpus", "hub:NAME")),
    Mistake("a made-up corpus of no words", (*PREPARE, "--corpus", "synthetic:0"), 2, ("synthetic:20000",)),
    Mistake("a tokenizer's kind misspelt", (*PREPARE, "--tokenizer", "wordpeice"), 3,
            ("cannot read the tokenizer wordpeice", "did you mean 'wordpiece'?")),
    Mistake("a vocab.txt", (*PREPARE, "--tokenizer", "vocab.txt"), 3, ("vocab.txt", "a vocab.txt is not enough"),
            write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n")),
    Mistake("a tokenizer that is not JSON", (*PREPARE, "--tokenizer", "t.json"), 3, ("not a tokenizer.json", "give"),
            write("t.json", "hello")),
    Mistake("a tokenizer that lacks its tokens", (*PREPARE, "--tokenizer", "bare.json"), 3,
            ("lacks special tokens", "<mask> or [MASK]", "add_special_tokens", "leave --tokenizer out"), bare_tokenizer,
            mended=PREPARE),
    Mistake("a vocabulary without room", (*PREPARE, "--vocab", "64"), 3, ("no room for words", "give more than")),
    Mistake("a vocabulary that the text cannot fill", (*PREPARE, "--vocab", "32768"), 3,
            ("too small", "smaller --vocab")),
    Mistake("a cache that is a file", ("prepare", "tiny.toml", "--out", "runs/x", "--seed", "3"), 5,
            ("text.txt", "GPUDAY_CACHE"), environment={"GPUDAY_CACHE": "text.txt"}),
    Mistake("a run's folder inside of the corpus", ("prepare", "tiny.toml", "--corpus", "in", "--out", "in/run"), 2,
            ("lies inside the corpus", "outside"), write("in/a.txt", "a\n\nb\n")),
    Mistake("a run's folder that is a file", ("prepare", "tiny.toml", "--out", "text.txt"), 2,
            ("text.txt cannot be the run's folder", "--out")),
    Mistake("a run's folder below a file", ("prepare", "tiny.toml", "--out", "text.txt/x"), 2,
            ("cannot be the run's folder", "--out")),
    Mistake("a run's folder with other things in it", ("prepare", "tiny.toml", "--out", "full"), 2,
            ("full holds notes.txt", "give a folder of its own, such as full/run"), write("full/notes.txt", "mine"),
            mended=("prepare", "tiny.toml", "--out", "full/run")),
    Mistake("the folder of all runs as a run's folder", ("prepare", "tiny.toml", "--out", "runs"), 2,
            ("runs holds begun, done", "such as runs/run")),
    Mistake("a run's name with a blank", ("prepare", "tiny.toml", "--out", "my run"), 2,
            ("'my run' cannot name a run", "--out", "letters")),
    Mistake("a run's name of dots", ("prepare", "tiny.toml", "--out", "runs/.."), 2, ("'..' cannot name", "--out")),
    Mistake("this folder as a run's name", ("prepare", "tiny.toml", "--out", "."), 2, ("'.' cannot name", "--out")),
    Mistake("a run's name that is too long", ("prepare", "tiny.toml", "--out", "a" * 150), 2, ("at most 100",)),
    Mistake("a place where no folder can be made", ("prepare", "tiny.toml", "--out", "/proc/x"), 2,
            ("/proc/x cannot be the run's folder", "--out")),
)  # fmt: skip

VALUES = tuple(
    Mistake(f"the budget {text!r}", (*SHOW, f"--budget={text}"), 2, ("is not a budget", *said),
            mended=(*SHOW, f"--budget={right}") if right else ())
    for text, said, right in (
        ("10", ("10s for seconds, 10m for minutes, 10h for hours", "10steps"), "10m"),
        ("5000", ("5000steps",), "5000steps"),
        ("10 min", ("write 10m",), "10m"),
        ("2 hours", ("write 2h",), "2h"),
        ("1h30m", ("write 90m",), "90m"),
        ("24:00:00", ("write 1440m",), "1440m"),
        ("-5m", ("10m, 24h",), ""),
        ("0s", ("more than 0",), ""),
        ("1e400h", ("less than",), ""),
        ("nan", ("10m, 24h",), ""),
        ("", ("10m, 24h",), ""),
    )
) + tuple(
    Mistake(f"the budget {text!r}", (*SHOW, f"--budget={text}"), 2, said, mended=(*SHOW, f"--budget={right}"))
    for text, said, right in (
        ("0.5steps", ("0.5 is not a whole number of steps", "1steps"), "1steps"),
        ("1tok", ("less than one row",), "4096tok"),
        ("1e-9s", ("too few for a step", "1s or more"), "1s"),
    )
) + tuple(
    Mistake(f"{flag} {text!r}", (*SHOW, flag, text), 2, said, mended=(*SHOW, flag, right) if right else ())
    for flag, text, said, right in (
        ("--size", "Nano", ("no size is called 'Nano'", "did you mean 'nano'?"), "nano"),
        ("--size", "", ("no size is called ''", "known: auto, bamboo, base"), "auto"),
        ("--vocab", "1000", ("vocab is 1000", "multiple of 64"), "1024"),
        ("--vocab", "4294967296", ("vocab is 4294967296", "1,048,576"), ""),
        ("--vocab", "8k", ("--vocab is '8k'", "give a whole number"), ""),
        ("--seed", "-1", ("seed is -1", "from 0 on"), "0"),
        ("--seed", "99999999999999999999", ("seed is", "9,223,372,036,854,775,807"), ""),
        ("--seed", "1.5", ("--seed is '1.5'", "give a whole number: 2"), "2"),
        ("--documents", "lines", ("--documents is 'lines'", "did you mean 'line'?"), "line"),
    )
) + tuple(
    Mistake(f"--set {item[:60]}", (*SHOW, "--set", item), 2, said, mended=(*SHOW, "--set", right) if right else ())
    for item, said, right in (
        ("optimizer.lr", ("is not key=value", "optimizer.lr=1e-3"), "optimizer.lr=1e-3"),
        ("optimizer.lrr=1", ("unknown key", "did you mean 'optimizer.lr'?"), "optimizer.lr=1"),
        ("optimizer.lr=fast", ("optimizer.lr is 'fast'", "give a number"), ""),
        ('optimizer.lr="1e-3"', ("optimizer.lr is '1e-3'", "write 1e-3, without quotes"), "optimizer.lr=1e-3"),
        ("optimizer.lr=0,5", ("write 0.5",), "optimizer.lr=0.5"),
        ("optimizer.momentum=.9", ("write 0.9",), "optimizer.momentum=0.9"),
        ("optimizer.lr=1,000", ("optimizer.lr is '1,000'", "give a number"), ""),
        ("betas=0.9", ("unknown key 'betas'", "optimizer.rest.beta1"), "optimizer.rest.beta1=0.9"),
        ("warmup_steps=9", ("unknown key", "a share of the budget", "rate.warmup=0.02"), "rate.warmup=0.02"),
        ("train.dtype=0x" + "f" * 4000, ("train.dtype is a value of type int", "one of auto"), "train.dtype=auto"),
        ("optimizer.lr=nan", ("optimizer.lr is not a finite number", "1e-3"), ""),
        ("optimizer.lr=inf", ("optimizer.lr is not a finite number",), ""),
        ("optimizer.lr=-1", ("lr is -1.0", "optimizer.lr", "0.0 or more"), ""),
        ("optimizer.lr.x=1", ("unknown key 'optimizer.lr.x'", "optimizer.lr is one value"), ""),
        ("optimizer.momentum=2", ("momentum is 2.0", "from 0 to below 1"), ""),
        ("optimizer.rest.beta1=-3", ("beta1 is -3.0", "from 0 to below 1"), ""),
        ("batch.rows=-1", ("rows is -1", "batch.rows"), ""),
        ("batch.rows=8.5", ("batch.rows is 8.5", "give a whole number"), ""),
        ("batch.rows=8.0", ("batch.rows is 8.0", "write 8"), "batch.rows=8"),
        ("batch.rows=10000000000", ("rows is 10000000000", "16,777,216"), ""),
        ("train.clip=-1", ("clip is -1.0", "train.clip"), ""),
        ("train.validate_every=5", ("validate_every is 5.0", "0.0 to 1.0"), ""),
        ("train.compile=yes", ("train.compile is 'yes'", "one of auto, on, off"), "train.compile=on"),
        ("train.dropout=True", ("train.dropout is 'True'", "write true"), "train.dropout=true"),
        ("model.dropout=2", ("dropout 2.0 is not in [0, 1)", "0.1"), "model.dropout=0.1"),
        ("model.width=31", ("width 31", "even"), ""),
        ("model.shape.layers=0", ("layers is 0", "1 to 1,000"), ""),
        ("model.mixer.head_width=15", ("head_width is 15", "even number"), ""),
        ("model=nano", ("model is 'nano', not a table", "model.width"), ""),
        ("data.length=4", ("length is 4", "8 to 65,536"), "data.length=8"),
        ("data.length=100000000", ("length is 100000000", "65,536"), ""),
        ("data.corpus=text.txt", ("not a list", 'write ["text.txt"]'), 'data.corpus=["text.txt"]'),
        ("budget=10m", ("budget is a name", "--budget 10m"), ""),
        ("size=base", ("size is a name", "--size base"), ""),
        ("optimizer=adamv", ("no optimizer is called 'adamv'", "did you mean 'adam' or 'adamw'?"), "optimizer=adamw"),
        ("optimizer=3", ("optimizer names no part", 'part = "adafactor"'), 'optimizer={ part = "adafactor" }'),
        ("objective.rate=1.5", ("unknown key 'objective.rate'", "'objective.mlm.rate'"), ""),
        ("objective.mlm.rate=1.5", ("rate is 1.5", "where: objective.mlm.rate", "at most 1"), ""),
        ("mlm_probability=0.15", ("here it is objective.mlm.rate",), "objective.mlm.rate=0.15"),
        ("rate.warmup=2", ("warmup is 2.0", "where: rate.warmup", "from 0 to 1"), ""),
    )
)  # fmt: skip

FILES = (
    Mistake("a recipe without a base", MINE, 2, ("names no base", 'base = "modern"'), toml('size = "nano"\n')),
    Mistake("a base misspelt", MINE, 2, ("names no base", "write base instead of bsae"), toml('bsae = "modern"\n')),
    Mistake("a base that is none", MINE, 2, ("'modrn'", "base, in mine.toml", "'modern'"), toml('base = "modrn"\n')),
    Mistake("a key in the wrong table", MINE, 2, ("unknown key 'train.lr'", "mine.toml", "optimizer.lr"),
            toml('base = "modern"\n[train]\nlr = 1e-3\n')),
    Mistake("a budget that is a bare number", MINE, 2, ("'10' is not a budget", "10m"),
            toml('base = "modern"\nbudget = 10\n')),
    Mistake("a table twice", MINE, 2, ("mine.toml is not valid TOML", "line 4"),
            toml('base = "modern"\n[train]\nclip = 1\n[train]\nclip = 2\n')),
    Mistake("a recipe in UTF-16", MINE, 2, ("mine.toml is not valid TOML",), toml('base = "modern"'.encode("utf-16"))),
    Mistake("a recipe in YAML", ("show", "a.yaml"), 2, ("not valid TOML", 'base = "modern"'),
            write("a.yaml", "base: modern\nlr: 3\n")),
    Mistake("a recipe in JSON", ("show", "a.json"), 2, ("not valid TOML", 'base = "modern"'),
            write("a.json", '{"base": "modern"}')),
    Mistake("a run's recipe.json as a preset", ("run", "runs/done/recipe.json"), 2, ("not valid TOML", "recipe is TOML")),
    Mistake("a recipe that is not there", ("run", "tiny2.toml"), 2, ("cannot read tiny2.toml", "'tiny.toml'"),
            mended=SHOW),
    Mistake("a recipe without its ending", ("run", "tiny"), 2, ("'tiny'", "'tiny.toml'"), mended=SHOW),
    Mistake("a run's folder as a preset", ("run", "runs/done"), 2, ("'runs/done'", "the command that began it")),
)  # fmt: skip

RUNS = (
    *(Mistake(f"another recipe in a run's folder: {key}", (*AGAIN, *flags), 2,
              ("holds a run of another recipe", key, "give another --out"))
      for key, flags in (
          ("seed: 0 there, 7 asked", ("--seed", "7")),
          ("budget.amount: 3.0 there, 4.0 asked", ("--budget", "4steps")),
          ("optimizer.lr: 0.02 there, 0.5 asked", ("--set", "optimizer.lr=0.5")),
          ("data.vocab: 512 there, 576 asked", ("--vocab", "576")),
          ("optimizer.part: 'muon' there, 'adamw' asked", ("--set", "optimizer=adamw")),
          ("data.corpus", ("--corpus", "other.txt")),
      )),
    *(Mistake(f"{command} of {run}", (command, run), 3, (run, *said), mended=mended)
      for command in ("evaluate", "export", "report")
      for run, said, mended in (
          ("runs/don", ("did you mean 'runs/done'?",), ("show", "runs/done")),
          ("runs", ("it holds runs: give one, such as runs/begun",), ("show", "runs/begun")),
          ("done", ("write runs/done",), ("show", "runs/done")),
          ("text.txt", ("is not a run directory",), ()),
      )),
    Mistake("an evaluation before training", ("evaluate", "runs/begun"), 3, ("no final weights", "train it to the end")),
    Mistake("an export before training", ("export", "runs/begun"), 3, ("no final weights", "train it to the end")),
    Mistake("a look at no run", ("show", "runs/don"), 3, ("runs/don is not there", "'runs/done'")),
    Mistake("a list of no folder", ("list", "rnus/"), 2, ("neither a folder nor a kind",)),
    Mistake("weights that are gone", ("evaluate", "runs/done", "--tasks", "none"), 3, ("no final weights",),
            lambda place: shutil.rmtree(place / "runs/done/checkpoints")),
    Mistake("a resume on another device", AGAIN, 2, ("the run began on NVIDIA H100", "one run is one device"),
            other_machine),
    Mistake("a resume with fewer cores", AGAIN, 2, ("4096 threads", "one run is one device"), more_cores),
    Mistake("widths that do not go together", (*ALONE, "--set", "model.mixer.head_width=24"), 2,
            ("width 32 is not a multiple of head_width 24", "divides the width"),
            mended=(*PREPARE, "--set", "model.mixer.head_width=32")),
    *(Mistake(f"ranks of {environment}", ALONE, 2, (*said, "torchrun"), environment=environment)
      for environment, said in (
          ({"WORLD_SIZE": "2"}, ("WORLD_SIZE=2, without RANK, MASTER_ADDR",)),
          ({"RANK": "one"}, ("RANK is 'one', not a number",)),
          ({"RANK": "3", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, ("RANK=3, WORLD_SIZE=2",)),
          ({"RANK": "-1"}, ("RANK=-1",)),
          ({"WORLD_SIZE": "0", "RANK": "0"}, ("WORLD_SIZE=0",)),
          ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "x"}, ("MASTER_PORT=x",)),
          ({"LOCAL_RANK": ""}, ("LOCAL_RANK is ''",)),
      )),
)  # fmt: skip

TASKS = (
    Mistake("a task's files not named", ("evaluate", "runs/done", "--tasks", "cola"), 2, ("cola", "--task-data DIR")),
    Mistake("all tasks' files not named", ("evaluate", "runs/done", "--tasks", "glue"), 2, ("files", "--task-data DIR")),
    Mistake("a folder of tasks that is none", ("evaluate", "runs/done", "--tasks", "cola", "--task-data", "no"), 3,
            ("no is not a folder", "train.jsonl")),
    Mistake("tasks with blanks", ("evaluate", "runs/done", "--tasks", "cola rte"), 2, ("write cola,rte",)),
    Mistake("none beside another task", ("evaluate", "runs/done", "--tasks", "none,pydocs"), 2, ("write none alone",)),
    Mistake("no task", ("evaluate", "runs/done", "--tasks", ""), 2, ("no task is named", "none")),
    Mistake("a task without dev file", SCORE, 3, ("no dev file",), cola('{"text_a": "a", "label": 1}\n', "train.jsonl")),
    Mistake("a task's file without rows", SCORE, 3, ("has no rows",), cola("")),
    Mistake("a column missing", SCORE, 3, ("'text_a'", "line 1"), cola('{"sentence": "a", "label": 1}\n')),
    Mistake("a label that is none", SCORE, 3, ("label 7", "use one of"), cola('{"text_a": "a", "label": 7}\n')),
    Mistake("a task's file that is not JSON", SCORE, 3, ("line 1 is not JSON", "train.jsonl"), cola("a\t1\n")),
    Mistake("no rows to train on", ("evaluate", "runs/done", "--task-rows", "0"), 2, ("0 task rows", "rows or more")),
    Mistake("no fine-tuning", ("evaluate", "runs/done", "--task-seeds", "0"), 2, ("0 task seeds", "1 seed or more")),
    Mistake("a protocol misspelt", ("evaluate", "runs/done", "--protocol", "p1"), 2, ("'p1'", "did you mean 'P1'?")),
)  # fmt: skip

OWN_PARTS = (
    Mistake("a part that is not there", (*PARTS, "mien.py"), 2, ("mien.py is not a Python file", "'mine.py'"),
            write("mine.py", SCHEDULE.format("Mine")), mended=(*PARTS, "mine.py")),
    Mistake("a part that is no Python", (*PARTS, "text.txt"), 2, ("text.txt is not a Python file", ".py")),
    Mistake("a file without a part", (*PARTS, "p.py"), 2, ("p.py defines no part", "Schedule"), write("p.py", "x = 1")),
    Mistake("two parts in a file", (*PARTS, "two.py"), 2, ("two.py holds 2 parts", "one part, one file"),
            write("two.py", SCHEDULE.format("One") + SCHEDULE.format("Two"))),
    Mistake("a part's name taken", (*PARTS, "constant.py"), 2, ("'constant' ships already", "rename"),
            write("constant.py", SCHEDULE.format("Mine"))),
    Mistake("a part that cannot be read", (*PARTS, "s.py"), 2, ("s.py is not valid Python", "line 1"),
            write("s.py", "def f(:\n")),
    Mistake("a part that imports nothing there", (*PARTS, "i.py"), 2, ("No module named 'nothing_such'", "i.py:1"),
            write("i.py", "import nothing_such\n")),
    Mistake("a part that fails", (*PARTS, "z.py"), 2, ("ZeroDivisionError", "z.py:2"), write("z.py", "\n1 / 0\n")),
    Mistake("a part that exits", (*PARTS, "e.py"), 2, ("SystemExit", "e.py:1"), write("e.py", "raise SystemExit(0)\n")),
)  # fmt: skip

CATALOGUE = (*PATHS, *VALUES, *FILES, *RUNS, *TASKS, *OWN_PARTS)
