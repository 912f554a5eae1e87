"""What people who come from other tools type, and what it is here. One table for flags and keys, one for commands.

A key stands alone only where every preset's recipe has it and it takes the same quantity; where it is another one, or
only some presets have the key, a sentence says so. Where the recipe is known, it says which of several keys it has.
"""

from collections.abc import Collection

from gpuday.core.clock import Budget
from gpuday.core.errors import UsageError
from gpuday.presets.sizes import SIZES

DEVICE = "not needed: the first CUDA device is taken, else the CPU; CUDA_VISIBLE_DEVICES=1 chooses another"
RESUME = "not needed: the same command again resumes"
THREADS = "not needed: the fit measures how many threads are best; OMP_NUM_THREADS fixes them"
WARMUP = "a share of the budget: rate.warmup=0.02, and rate.cooldown=0.2 at the other end"
HEADS = "a width instead of a number: model.mixer.head_width, which is model.width divided by the heads"
MICROBATCH = (
    "not needed: train.microbatch rows at a time make a step of batch.rows; the fit measures how many go at once"
)
BETAS = (
    "optimizer.beta1 and optimizer.beta2 with bert, crammed, crammed_v1 and izsak; optimizer.rest.beta1 and"
    " optimizer.rest.beta2 with modern and unrestricted"
)
MASKS = "objective.rate with bert, crammed, crammed_v1 and izsak; objective.mlm.rate with modern and unrestricted"
DTYPE = "write train.dtype=bfloat16 or train.dtype=float32; without it the device's best is taken"
# A dotted word is a key of the recipe, one with hyphens a flag, anything else a sentence. `-` and `_` are one.
KEYS = {
    "lr": "optimizer.lr",
    "learning_rate": "optimizer.lr",
    "wd": "optimizer.weight_decay",
    "decay": "optimizer.weight_decay",
    "mask_rate": MASKS,
    "betas": BETAS,
    "adam_beta1": BETAS,
    "adam_beta2": BETAS,
    "warmup": WARMUP,
    "warmup_ratio": WARMUP,
    "warmup_steps": WARMUP,
    "batch": "batch.rows",
    "batch_size": "batch.rows",
    "global_batch_size": "batch.rows",
    "per_device_train_batch_size": "train.microbatch",
    "micro_batch_size": "train.microbatch",
    "gradient_accumulation_steps": MICROBATCH,
    "max_grad_norm": "train.clip",
    "grad_clip": "train.clip",
    "clip": "train.clip",
    "mlm_probability": MASKS,
    "precision": "train.dtype",
    "dtype": "train.dtype",
    "bf16": DTYPE,
    "fp16": f"float16 is not used: {DTYPE}",
    "amp": DTYPE,
    "compile": "train.compile",
    "save_steps": "seconds instead of steps: train.save_every_seconds",
    "eval_steps": "a share of the budget instead of steps: train.validate_every=0.1",
    "layers": "model.shape.layers",
    "num_layers": "model.shape.layers",
    "num_hidden_layers": "model.shape.layers",
    "depth": "model.shape.layers",
    "hidden_size": "model.width",
    "dim": "model.width",
    "width": "model.width",
    "heads": HEADS,
    "num_heads": HEADS,
    "num_attention_heads": HEADS,
    "max_length": "data.length",
    "max_seq_length": "data.length",
    "seq_len": "data.length",
    "length": "data.length",
    "dropout": "model.dropout, which acts in pretraining with train.dropout=true",
    "vocab_size": "--vocab",
    "random_seed": "--seed",
    "epochs": "--budget, in time, tokens or steps: --budget 24h",
    "num_train_epochs": "--budget, in time, tokens or steps: --budget 24h",
    "steps": "--budget, for example --budget 5000steps",
    "max_steps": "--budget, for example --budget 5000steps",
    "tokens": "--budget, for example --budget 2e9tok",
    "time": "--budget, for example --budget 24h",
    "hours": "--budget, for example --budget 24h",
    "data": "--corpus",
    "data_dir": "--corpus",
    "dataset": "--corpus",
    "input": "--corpus",
    "train_file": "--corpus",
    "validation_file": "--heldout",
    "output": "--out",
    "output_dir": "--out",
    "workdir": "--out",
    "save_dir": "--out",
    "model": "give the preset's name without a flag: gpuday run modern --size nano",
    "arch": "give the preset's name without a flag: gpuday run modern --size nano",
    "config": "give the file's name without a flag: gpuday run mine.toml",
    "resume": RESUME,
    "resume_from_checkpoint": RESUME,
    "checkpoint": RESUME,
    "force": "give another folder with --out, or remove the old one: nothing is written over",
    "overwrite": "give another folder with --out, or remove the old one: nothing is written over",
    "gpu": DEVICE,
    "gpus": "not needed for one device; several are started by torchrun --nproc-per-node 4 -m gpuday run",
    "device": DEVICE,
    "cuda": DEVICE,
    "cpu": "not needed: CUDA_VISIBLE_DEVICES= hides the GPUs",
    "num_workers": THREADS,
    "threads": THREADS,
    "verbose": "--json, which shows every event, or --debug, which shows an error's traceback",
}
COMMANDS = {
    "pretrain": "run",
    "start": "run",
    "resume": "run",
    "fit": "train",
    "eval": "evaluate",
    "finetune": "evaluate",
    "score": "evaluate",
    "infer": "predict",
    "classify": "predict",
    "test": "evaluate",
    "convert": "export",
    "push": "export",
    "ls": "list",
    "info": "show",
    "check": "doctor",
    "help": "--help",
    "version": "--version",
}


def flag_meant(flag: str) -> str:
    """What a flag of another tool is here, as a sentence; empty for a word that no table has."""
    there = KEYS.get(_plain(flag), "")
    key, comma, more = there.partition(",")
    return f"here it is --set {key}=...{comma}{more}" if _is_key(key) else _said(there)


def key_meant(key: str, known: Collection[str]) -> str:
    """The same for a key of a recipe that has those which are `known`; of the key, the last name counts."""
    there = KEYS.get(_plain(key.rpartition(".")[2]), "")
    for clause in there.split("; "):
        keys, beside, _ = clause.partition(" with ")
        if beside and all(name in known for name in keys.split(" and ")):
            return f"here it is {keys}"
    return _said(there)


def misplaced(word: str) -> str:
    """The flag that a word without one belongs to: `nano` to --size, `10m` to --budget; empty for any other."""
    if word in (*SIZES, "auto"):
        return f"write --size {word}"
    try:
        Budget.parse(word)
    except UsageError:
        return ""
    return f"write --budget {word}"


def _said(there: str) -> str:
    return f"here it is {there}" if _is_key(there.partition(",")[0]) or there.startswith("--") else there


def _is_key(there: str) -> bool:
    return "." in there and " " not in there


def _plain(word: str) -> str:
    return word.lstrip("-").casefold().replace("-", "_")
