"""The Hugging Face Trainer as a peer: `Trainer.train()` itself, with a pause after each of its steps."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measure import Spread
from workload import Workload, random_rows

WARM_UP = 2  # steps of either side that are left out: compiling, allocation


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A model of transformers and the Trainer's switches."""

    model: str
    bf16: bool = True
    compile: bool = False


ARMS = {
    "trainer bert fp32": Setting(model="bert", bf16=False),
    "trainer bert bf16": Setting(model="bert"),
    "trainer bert bf16 compiled": Setting(model="bert", compile=True),
    "trainer modernbert bf16": Setting(model="modernbert"),
    "trainer modernbert bf16 compiled": Setting(model="modernbert", compile=True),
}


def trainer_seconds(name: str, work: Workload, between: Callable[[], object], *, rounds: int, scratch: Path) -> Spread:
    """Seconds of a step, fetching and masking its batch included, with `between` called after each."""
    from transformers import (
        DataCollatorForLanguageModeling,
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        set_seed,
    )
    from transformers.utils import logging

    logging.set_verbosity_error()
    setting = ARMS[name]
    set_seed(0)
    pauses = _Pauses(between)

    class Between(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            pauses.resume()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            pauses.pause()

    arguments = TrainingArguments(
        output_dir=str(scratch),
        per_device_train_batch_size=work.rows,
        max_steps=WARM_UP + rounds,
        learning_rate=1e-4,
        bf16=setting.bf16,
        torch_compile=setting.compile,
        use_cpu=not torch.cuda.is_available(),
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    tokenizer = mask_tokenizer(work.vocab)
    rows = random_rows(work.rows * (WARM_UP + rounds), work.length, work.vocab)
    trainer = Trainer(
        model=build_model(setting.model, work),
        args=arguments,
        train_dataset=[{"input_ids": row} for row in rows.tolist()],
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.25),
        callbacks=[Between()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return Spread.of(pauses.seconds[WARM_UP:])


class _Pauses:
    """Books the seconds between two pauses."""

    def __init__(self, between: Callable[[], object]) -> None:
        self._between = between
        self.seconds: list[float] = []
        self._since = 0.0

    def resume(self) -> None:
        self._since = time.perf_counter()

    def pause(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self._since)
        self._between()
        self.resume()


def build_model(kind: str, work: Workload) -> Any:
    """The model of `build_config` with its head for masked tokens."""
    from transformers import BertForMaskedLM, ModernBertForMaskedLM

    return (BertForMaskedLM if kind == "bert" else ModernBertForMaskedLM)(build_config(kind, work))


def build_config(kind: str, work: Workload) -> Any:
    """BERT with a plain network of the same FLOPs as our gated one; or ModernBERT with the same gated one, attention
    over whole rows and predictions at masked positions only."""
    from transformers import BertConfig, ModernBertConfig

    model = work.recipe.model
    width, layers, per_token = model.width, model.shape.depth, model.feedforward.flops_per_token(model.width)
    common = {
        "vocab_size": work.vocab,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "max_position_embeddings": work.length,
        "pad_token_id": 0,
    }
    if kind == "bert":
        return BertConfig(**common, intermediate_size=round(per_token / (4 * width)))
    none = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"))
    return ModernBertConfig(
        **common,
        **none,
        intermediate_size=round(per_token / (6 * width)),
        layer_types=["full_attention"] * layers,
        sparse_prediction=True,
    )


def mask_tokenizer(vocab: int) -> Any:
    """What the collator asks for: a vocabulary of that size with its special tokens."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<unk>", "<cls>", "<sep>", "<mask>", *(f"t{i}" for i in range(5, vocab))]
    plain = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", unk_token="<unk>", cls_token="<cls>", sep_token="<sep>",
        mask_token="<mask>",
    )  # fmt: skip
