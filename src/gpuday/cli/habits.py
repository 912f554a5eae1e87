"""What people who come from other tools type, and what it is here. One table for flags and keys, one for commands."""

DEVICE = "not needed: the first CUDA device is taken, else the CPU; CUDA_VISIBLE_DEVICES=1 chooses another"
RESUME = "not needed: the same command again resumes"
THREADS = "not needed: the fit measures how many threads are best; OMP_NUM_THREADS fixes them"
# A dotted word is a key of the recipe, one with hyphens a flag, anything else a sentence. `-` and `_` are one.
KEYS = {
    "lr": "optimizer.lr",
    "learning_rate": "optimizer.lr",
    "wd": "optimizer.weight_decay",
    "betas": "optimizer.beta1",
    "warmup_ratio": "rate.warmup",
    "warmup_steps": "rate.warmup",
    "batch": "batch.rows",
    "batch_size": "batch.rows",
    "global_batch_size": "batch.rows",
    "per_device_train_batch_size": "train.microbatch",
    "micro_batch_size": "train.microbatch",
    "gradient_accumulation_steps": "train.microbatch",
    "max_grad_norm": "train.clip",
    "grad_clip": "train.clip",
    "clip": "train.clip",
    "mlm_probability": "objective.rate",
    "precision": "train.dtype",
    "dtype": "train.dtype",
    "bf16": "train.dtype",
    "fp16": "train.dtype",
    "compile": "train.compile",
    "save_steps": "train.save_every_seconds",
    "eval_steps": "train.validate_every",
    "layers": "model.shape.layers",
    "num_layers": "model.shape.layers",
    "num_hidden_layers": "model.shape.layers",
    "depth": "model.shape.layers",
    "hidden_size": "model.width",
    "dim": "model.width",
    "width": "model.width",
    "heads": "model.mixer.head_width",
    "num_attention_heads": "model.mixer.head_width",
    "max_length": "data.length",
    "max_seq_length": "data.length",
    "seq_len": "data.length",
    "length": "data.length",
    "dropout": "model.dropout",
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
    return f"here it is --set {there}=..." if "." in there.partition(" ")[0] else _said(there)


def key_meant(key: str) -> str:
    """The same for a recipe's key, of which the last name counts."""
    return _said(KEYS.get(_plain(key.rpartition(".")[2]), ""))


def _said(there: str) -> str:
    first = there.partition(" ")[0]
    return f"here it is {there}" if "." in first or first.startswith("--") else there


def _plain(word: str) -> str:
    return word.lstrip("-").casefold().replace("-", "_")
