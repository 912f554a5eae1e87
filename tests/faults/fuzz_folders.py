"""Readers of `fuzz_readers.py` whose inputs are folders or take long to make: tasks, tokenizers, stores, checkpoints."""

import json
import random
from pathlib import Path

import numpy as np
import torch
import zstandard
from fuzz_readers import TEXTS, Reader, copy_of, json_lines
from mutations import mutated, reshaped

from gpuday.core.sealed import digest, seal, seal_inside, unseal, unseal_inside
from gpuday.data.document import Document, DropCounter
from gpuday.data.tokenfile import TokenStore, TokenWriter
from gpuday.data.tokenizer import adopt_tokenizer, train_tokenizer
from gpuday.data.wordcache import WordCache
from gpuday.data.words import WordQuestion, write_words
from gpuday.evaluate.tasks.glue import GLUE
from gpuday.evaluate.tasks.parsing import parse_rows
from gpuday.train import checkpoint

RESEALED = 0.3  # of the damage comes with a checksum that fits


class TaskFile(Reader):
    """Rows of every GLUE task, as JSON, packed JSON, or in the official layout."""

    def read(self, draw: random.Random) -> str:
        task = draw.choice(GLUE)
        label = task.classes[0] if task.classes else 0.5
        form = draw.choice((".jsonl", ".jsonl.zst", ".tsv"))
        if form == ".tsv" and task.tsv is not None:
            names = list(task.tsv.names) or ["id", *filter(None, (task.tsv.text_a, task.tsv.text_b, task.tsv.label))]
            cells = {task.tsv.text_a: "a b", task.tsv.text_b: "c d", task.tsv.label: str(label)}
            lines = [] if task.tsv.names else [names]
            lines += [[cells.get(name, "x") for name in names] for _ in range(20)]
            content = mutated(draw, "\n".join(map("\t".join, lines)).encode())
        else:
            content = json_lines(draw, [{"text_a": text, "text_b": "b", "label": label} for text in TEXTS])
            if form == ".jsonl.zst":
                packed = zstandard.ZstdCompressor().compress(content)
                content = packed if draw.random() < 0.5 else mutated(draw, packed)
        rows = parse_rows(task, self.folder / f"train{form}", content)
        assert len(rows.labels) == len(rows) > 0 and np.isfinite(rows.labels).all()
        for text in rows.text_a + (rows.text_b or ()):
            text.encode()
        return "result"


class TokenizerFile(Reader):
    """A tokenizer.json as `--tokenizer` reads it, and what preparing does with it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        kinds = ("bpe", "light", 320), ("wordpiece", "crammed", 128)
        self._valid = [train_tokenizer(iter(TEXTS * 3), kind=k, normalizer=n, vocab=v)[0]._json for k, n, v in kinds]

    def read(self, draw: random.Random) -> str:
        valid = draw.choice(self._valid)
        odd = draw.random() < 0.7
        path = self.folder / "tokenizer.json"
        path.write_bytes(
            json.dumps(reshaped(draw, json.loads(valid))).encode("utf-8", "surrogatepass")
            if odd
            else mutated(draw, valid.encode())
        )
        tokenizer, _ = adopt_tokenizer(path)
        for ids, _ in WordCache(tokenizer).encode([TEXTS, ["a" * 1000]]):
            assert len(ids) == 0 or 0 <= ids.min() <= ids.max() < tokenizer.vocab_size
            assert not np.isin(ids, [tokenizer.pad_id, tokenizer.mask_id, tokenizer.cls_id, tokenizer.sep_id]).any()
            tokenizer.decode(ids.tolist())
        tokenizer.save(self.folder / "saved.json")
        return "result"


class Store(Reader):
    """A token store and a word question; one file of them is damaged."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._template = folder / "template"
        tokens = np.arange(64, dtype=np.int64).reshape(8, 8)
        with TokenWriter(self._template / "train.tok", length=8, vocab_size=400, vocabulary="x") as writer:
            for label in ("a", "b"):
                writer.append(tokens)
                writer.end_shard(label, np.array([0, 9, 40], dtype=np.int64))
            store = writer.finish()
        store.write_scores("unigram", [np.ones(16, dtype=np.float32)])
        tokenizer, _ = train_tokenizer(iter(TEXTS * 3), kind="bpe", normalizer="light", vocab=320)
        documents = [Document(" ".join(TEXTS), f"d{i}", "a", f"d{i}") for i in range(4)]
        words = self._template / "heldout.words"
        write_words(words, documents, tokenizer, length=32, cls=False, sep=True, drops=DropCounter())
        self._files = sorted(p.relative_to(self._template) for p in self._template.rglob("*") if p.is_file())

    def read(self, draw: random.Random) -> str:
        place = copy_of(self._template, self.folder / "store")
        path = place / draw.choice(self._files)
        raw = path.read_bytes()
        if path.suffix == ".json" and draw.random() < 0.7:
            value = reshaped(draw, unseal_inside(raw))
            raw = seal_inside(value) if isinstance(value, dict) else b"[]"
        elif path.suffix == ".bin" and draw.random() < RESEALED:
            head = reshaped(draw, unseal_inside(raw[:1024].rstrip()) if raw[:1024].rstrip().endswith(b"}") else {})
            raw = (seal_inside(head) if isinstance(head, dict) else b"").ljust(1023)[:1023] + b"\n" + raw[1024:]
        else:
            raw = mutated(draw, raw)
        path.write_bytes(raw)
        if path.parent.name == "heldout.words":
            question = WordQuestion.open(place / "heldout.words")
            assert question.ids.shape == question.labels.shape == question.is_target.shape
            return "result"
        store = TokenStore.open(place / "train.tok")
        store.verify()
        rows = np.arange(min(len(store), 50), dtype=np.int64)
        assert store.rows(rows).shape == store.segments(rows).shape
        assert len(store.source_of(rows)) == len(rows)
        assert store.most_documents() >= 0
        assert sum(map(len, store.blocks())) == len(store)
        assert store.scores("unigram").shape == (len(store),)
        return "result"


class Checkpoints(Reader):
    """Two checkpoints, of which a file is damaged: what is loaded is one of the two, to the bit."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._template = folder / "template"
        for step in (10, 20):
            tensors = {"model.w": torch.full((4, 4), float(step)), "model.b": torch.arange(3)}
            state = {"progress": {"step": step, "final": None}, "clock": {"used": 1.5}, "names": ["a", "b"]}
            checkpoint.save(self._template, step, model=tensors, optimizer=tensors, state=state)
        self._files = sorted(p.relative_to(self._template) for p in self._template.rglob("*") if p.is_file())

    def read(self, draw: random.Random) -> str:
        place = copy_of(self._template, self.folder / "checkpoints")
        path = place / draw.choice(self._files)
        raw = path.read_bytes()
        resealed = path.name not in ("LATEST", "manifest.json") and draw.random() < RESEALED
        if path.name == "state.json" and resealed:
            path.write_text(json.dumps(reshaped(draw, json.loads(raw))))
        elif path.name in ("LATEST", "manifest.json") and draw.random() < RESEALED:
            resealed, value = True, reshaped(draw, unseal(raw))
            path.write_bytes(seal(value) if isinstance(value, dict) else json.dumps(value).encode())
        else:
            path.write_bytes(mutated(draw, raw))
        if resealed and path.name != "manifest.json" and path.parent != place:
            listing = {
                name: {"bytes": len(data), "xxh3_128": digest(data)}
                for name in ("model.safetensors", "optimizer.safetensors", "state.json")
                if (data := (path.parent / name).read_bytes()) is not None
            }
            manifest = {"step": int(path.parent.name.partition("-")[2]), "files": listing}
            (path.parent / "manifest.json").write_bytes(seal(manifest))
        warnings: list[str] = []
        saved = checkpoint.load_newest(place, warn=warnings.append)
        assert saved is not None or resealed
        if saved is None or resealed:
            return "result"
        step = saved.state["progress"]["step"]
        assert step == 20 or warnings
        assert torch.equal(saved.model["model.w"], torch.full((4, 4), float(step)))
        assert torch.equal(saved.optimizer["model.b"], torch.arange(3))
        return "result"
