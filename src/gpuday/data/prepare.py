"""Text in, a folder of packed tokens out. Everything here is free: it happens before the budget's clock starts."""

import contextlib
import dataclasses
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import tokenizers
import xxhash

from gpuday.core.config import fingerprint, to_dict
from gpuday.core.errors import DataError, UsageError, nearest, within
from gpuday.core.rundir import fsync_folder, require_space
from gpuday.data.claims import claimed, clear_killed, clear_own
from gpuday.data.corpus import changed, parse_source, refuse_cache_within, refuse_changed, refuse_leak, tell_closed
from gpuday.data.document import Document, Drop, DropCounter
from gpuday.data.filters import Filter
from gpuday.data.heldout import GroupCensus, HeldoutGroups, SharedLines, collect
from gpuday.data.normalize import Normalizer
from gpuday.data.orders import Order
from gpuday.data.orders.random import Random
from gpuday.data.packing import ShardPacker, surround
from gpuday.data.prepared import FORMAT, PreparedData, open_whole, write_manifest
from gpuday.data.records import Separator
from gpuday.data.sources import Source
from gpuday.data.tokenfile import TokenWriter
from gpuday.data.tokenizer import TextTokenizer, adopt_tokenizer, train_tokenizer
from gpuday.data.wordcache import WordCache
from gpuday.data.words import write_words

SHARD_CHARACTERS = 64 << 20  # of text, so that shards do not depend on the tokenizer or on the engine
TOKEN_BYTES = 2  # of most vocabularies; a larger one takes 4
LEAST_CHARACTERS = 4  # of English in a token, about: how many it will be is known when all text was read again
_BATCH_CHARACTERS = 1 << 20  # a batch costs about 15 bytes a character, and ten times as much where no word is known
_BATCH_DOCUMENTS = 4096
_REPORT_SECONDS = 1.0
Progress = Callable[..., None]


MOST_LENGTH, MOST_VOCAB, MOST_SEED = 1 << 16, 1 << 20, (1 << 63) - 1
TRAINED = ("bpe", "wordpiece")  # kinds of tokenizers that are trained on the corpus


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What a run is trained on."""

    corpus: tuple[str, ...] = ("pydocs",)
    """Sources, each a SRC of the command line, read in this order."""
    heldout: tuple[str, ...] = ()
    """Sources of held-out text; empty to split it off the corpus."""
    documents: Separator = "blank"
    """What separates documents in txt files: nothing, the line end, or a blank line."""
    normalizer: Normalizer = "light"
    """What happens to text before it is tokenized; a tokenizer from a file keeps its own."""
    tokenizer: str = "bpe"
    """`bpe`, `wordpiece`, or the path of a tokenizer.json."""
    vocab: int = 8192
    """Vocabulary size in ids, a multiple of 64; a tokenizer from a file keeps its own."""
    length: int = 128
    """Tokens in a row."""
    cls: bool = False
    """Whether `<cls>` stands before every document."""
    sep: bool = True
    """Whether `<sep>` stands after every document."""
    filters: tuple[Filter, ...] = ()
    """Rules for training documents, asked in this order."""
    order: Order = field(default_factory=Random)
    """In which order rows are read."""
    heldout_characters: int = 800_000
    """Size of the held-out text, about 200,000 tokens; at most 5% of a small corpus."""
    tokenizer_characters: int = 32_000_000
    """The tokenizer is trained on a sample of about this size, spread evenly over the corpus."""
    seed: int = 0
    """Seed of that sample."""

    def __post_init__(self) -> None:
        if not self.corpus:
            raise UsageError("no corpus is given", where="corpus", fix='name one, for example "pydocs"')
        if self.vocab % 64 or self.vocab <= 0:
            raise UsageError(f"vocab is {self.vocab}", where="vocab", fix="give a multiple of 64, at least 320")
        within("data", length=(self.length, 8, MOST_LENGTH), vocab=(self.vocab, 64, MOST_VOCAB))
        within("data", seed=(self.seed, 0, MOST_SEED))
        if self.heldout_characters < 1 or self.tokenizer_characters < 1:
            raise UsageError("a size in characters is not positive", where="data", fix="give a positive number")


def prepare(config: DataConfig, cache: Path, *, progress: Progress | None = None) -> PreparedData:
    """Read, split, train the tokenizer, encode, filter, pack and score; write `<cache>/<fingerprint>/` in one step.

    The same config on the same inputs is found there and opened (`reused`). Of two processes that want it, one works
    and the other waits. `progress` is called as `progress(event, **fields)`. Raises DataError for text that cannot
    be used, and for a corpus of less than one row.
    """
    report = progress or _silent
    job = _Job(config, report, cache)
    key = job.fingerprint()
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / key
    with claimed(cache, key, report):
        prepared = open_whole(target, report)
        if prepared is None:
            clear_killed(cache)
            temporary = cache / f".{key}.tmp"
            clear_own(temporary)
            try:
                job.run(temporary, key)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            os.rename(temporary, target)
            fsync_folder(cache)
            prepared = PreparedData.open(target, reused=False)
        score = config.order.score()
        if score is not None and not prepared.train.has_scores(score.name):
            report("stage", stage="score", order=score.name)
            prepared.train.write_scores(score.name, score.compute(prepared.train, prepared.tokenizer))
    report("prepared", folder=str(target), reused=prepared.reused, **prepared.manifest["counts"])
    return prepared


class _Job:
    """One preparation: the passes over the text, and what they count."""

    def __init__(self, config: DataConfig, report: Progress, cache: Path) -> None:
        self._config, self._report = config, report
        self._corpus = [parse_source(text, documents=config.documents) for text in config.corpus]
        self._heldout = [parse_source(text, documents=config.documents) for text in config.heldout]
        refuse_cache_within(self._corpus + self._heldout, cache)
        self._inputs: dict[str, Any] = {
            "corpus": [source.fingerprint() for source in self._corpus],
            "heldout": [source.fingerprint() for source in self._heldout],
        }
        if config.tokenizer not in TRAINED:
            try:
                raw = Path(config.tokenizer).read_bytes()
            except OSError as error:
                raise DataError(
                    f"cannot read the tokenizer {config.tokenizer}: {error.strerror}",
                    fix=f"{nearest(config.tokenizer, TRAINED)}; or give the path of a tokenizer.json",
                ) from error
            self._inputs["tokenizer"] = xxhash.xxh3_128_hexdigest(raw)
        refuse_leak(self._inputs["corpus"], self._inputs["heldout"])
        tell_closed(config.corpus + config.heldout, self._inputs["corpus"] + self._inputs["heldout"], report)
        self._drops = DropCounter()
        self._seconds: dict[str, float] = {}
        self._read = 0, 0  # documents and characters of the last pass

    def fingerprint(self) -> str:
        """Of the format, the inputs, and the config without paths (the inputs stand for them) and without the order
        (its scores are added to what is there)."""
        knobs = to_dict(self._config)
        for key in ("corpus", "heldout", "order", *(["tokenizer"] if "tokenizer" in self._inputs else [])):
            del knobs[key]
        libraries = {"tokenizers": tokenizers.__version__}
        return fingerprint({"format": FORMAT, "config": knobs, "inputs": self._inputs, "libraries": libraries})

    def run(self, folder: Path, key: str) -> None:
        """Write everything into an empty folder."""
        config = self._config
        with self._stage("count"):
            census = self._census(self._corpus, self._drops)
            if not census.documents:
                raise DataError("the corpus holds no text", where=", ".join(config.corpus), fix="give other files")
            groups, heldout = self._split(census)
            require_space(
                folder,
                census.characters * TOKEN_BYTES // LEAST_CHARACTERS,
                f"the tokens of {census.characters:,} characters",
                fix="make room, or put the cache elsewhere with the variable GPUDAY_CACHE",
            )
        with self._stage("tokenizer"):
            tokenizer, unused, heldout = self._tokenizer(census, groups, heldout)
            tokenizer.save(folder / "tokenizer.json")
        shared, words = SharedLines(heldout), WordCache(tokenizer)
        with self._stage("encode"), self._writer(folder / "train.tok", tokenizer) as writer:
            self._encode(self._train(groups, shared), words, writer, "train", config.filters)
            train = writer.finish()
            refuse_changed(self._corpus + self._heldout, self._inputs["corpus"] + self._inputs["heldout"])
            if (census.documents, census.characters) != self._read:
                raise changed(", ".join(config.corpus))
        with self._stage("heldout"):
            kept = list(shared.without(heldout, self._drops))
            with self._writer(folder / "heldout.tok", tokenizer) as writer:
                self._encode(iter(kept), words, writer, "heldout", ())
                held = writer.finish()
            write_words(
                folder / "heldout.words", kept, tokenizer, length=config.length, cls=config.cls, sep=config.sep,
                drops=self._drops,
            )  # fmt: skip
        for name, store in (("training", train), ("held-out", held)):
            if not len(store):
                dropped = "; ".join(f"{stage}: {reason} ({count:,})" for stage, reason, count in self._drops)
                raise DataError(
                    f"the {name} text has less than one row of {config.length} tokens",
                    where=f"dropped before: {dropped}" if dropped else "",
                    fix="give more text, or a smaller length",
                )
        self._drops.write(folder / "drops.json")
        manifest = {
            "fingerprint": key,
            "config": to_dict(config),
            "inputs": self._inputs,
            "libraries": {"tokenizers": tokenizers.__version__},
            "counts": {
                "documents": census.documents,
                "characters": census.characters,
                "train_documents": train.index["documents"],
                "train_rows": len(train),
                "train_tokens": train.index["tokens"],
                "heldout_documents": len(kept),
                "heldout_characters": sum(len(d.text) for d in kept),
                "heldout_rows": len(held),
                "heldout_tokens": held.index["tokens"],
                "dropped": {f"{stage}: {reason}": count for stage, reason, count in self._drops},
            },
            "tokenizer": {
                "fingerprint": tokenizer.fingerprint,
                "vocab_size": tokenizer.vocab_size,
                "unused": unused,
                "normalizer": tokenizer.normalizer,
            },
            "seconds": {name: round(value, 3) for name, value in self._seconds.items()},
        }
        write_manifest(folder, manifest)

    def _census(self, sources: list[Source], drops: DropCounter) -> GroupCensus:
        census = GroupCensus()
        for document in self._reported(_documents(sources, drops)):
            census.add(document)
        return census

    def _split(self, census: GroupCensus) -> tuple[HeldoutGroups | None, list[Document]]:
        """(groups to hold out of the corpus, held-out documents if they come from elsewhere)."""
        size = self._config.heldout_characters
        if not self._heldout:
            return census.choose(size), []
        own = self._census(self._heldout, self._drops)
        if not own.documents:
            where = ", ".join(self._config.heldout)
            raise DataError("the held-out sources hold no text", where=where, fix="give other files")
        groups = own.choose(size, max_share=1)
        chosen = (d for d in _documents(self._heldout, DropCounter()) if d in groups)
        return None, collect(chosen, size, self._drops)

    def _tokenizer(
        self, census: GroupCensus, groups: HeldoutGroups | None, heldout: list[Document]
    ) -> tuple[TextTokenizer, int, list[Document]]:
        """(tokenizer, its unused ids, held-out documents); one pass serves both."""
        config, found = self._config, list[Document]()
        share = min(1.0, config.tokenizer_characters / census.characters)

        def sample() -> Iterator[str]:
            for document in self._reported(_documents(self._corpus, DropCounter())):
                if groups is not None and document in groups:
                    found.append(document)
                elif _hash_share(document.id, config.seed) < share:
                    yield document.text

        if "tokenizer" in self._inputs:
            if groups is not None:
                found.extend(d for d in _documents(self._corpus, DropCounter()) if d in groups)
            tokenizer, unused = adopt_tokenizer(Path(config.tokenizer))
        else:
            kind = cast(Literal["bpe", "wordpiece"], config.tokenizer)
            tokenizer, unused = train_tokenizer(sample(), kind=kind, normalizer=config.normalizer, vocab=config.vocab)
        if unused:
            self._drops.add("tokenizer", Drop("vocabulary entries that the corpus could not fill"), times=unused)
        return tokenizer, unused, heldout or collect(found, config.heldout_characters, self._drops)

    def _train(self, groups: HeldoutGroups | None, shared: SharedLines) -> Iterator[Document]:
        documents, characters = 0, 0
        for document in self._reported(_documents(self._corpus, DropCounter())):
            documents, characters = documents + 1, characters + len(document.text)
            self._read = documents, characters
            if groups is None or document not in groups:
                shared.see(document)
                yield document

    def _writer(self, folder: Path, tokenizer: TextTokenizer) -> TokenWriter:
        return TokenWriter(
            folder, length=self._config.length, vocab_size=tokenizer.vocab_size, vocabulary=tokenizer.fingerprint
        )

    def _encode(
        self,
        documents: Iterator[Document],
        words: WordCache,
        writer: TokenWriter,
        stage: str,
        filters: tuple[Filter, ...],
    ) -> None:
        """Encode in batches, filter, pack and write; a shard ends with its size in characters or with its source."""
        first = words.tokenizer.cls_id if self._config.cls else None
        last = words.tokenizer.sep_id if self._config.sep else None
        packer = ShardPacker(self._config.length)
        waiting = deque[tuple[list[Document], bool]]()

        def texts() -> Iterator[list[str]]:
            for batch, ends_shard in _batched(documents):
                waiting.append((batch, ends_shard))
                yield [document.text for document in batch]

        for ids, lengths in words.encode(texts()):
            batch, ends_shard = waiting.popleft()
            keep = lengths > 0
            for i, (document, end, length) in enumerate(zip(batch, np.cumsum(lengths), lengths, strict=True)):
                own = ids[end - length : end]
                reason = next(filter(None, (f(document, own) for f in filters)), None) if length else "no tokens"
                if reason is not None:
                    keep[i] = False
                    self._drops.add(stage, Drop(reason, document.text))
            ids = ids[np.repeat(keep, lengths)]
            rows = packer.add(*surround(ids, lengths[keep], first=first, last=last))
            if len(rows):
                writer.append(rows)
            if ends_shard:
                starts, rest = packer.finish()
                writer.end_shard(batch[-1].source, starts)
                self._drops.add(stage, Drop("tokens after the last whole row of a shard"), times=rest)
                packer = ShardPacker(self._config.length)

    def _reported(self, documents: Iterator[Document]) -> Iterator[Document]:
        count, characters, last = 0, 0, time.monotonic()
        for document in documents:
            count, characters = count + 1, characters + len(document.text)
            if count % 64 == 0 and time.monotonic() - last > _REPORT_SECONDS:
                last = time.monotonic()
                self._report("progress", documents=count, characters=characters)
            yield document

    @contextlib.contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        self._report("stage", stage=name)
        start = time.monotonic()
        yield
        self._seconds[name] = time.monotonic() - start


def _documents(sources: list[Source], drops: DropCounter) -> Iterator[Document]:
    """Documents of all sources; two sources may hold files of one name, so that later ones are numbered."""
    for number, source in enumerate(sources):
        if not number:
            yield from source.documents(drops)
            continue
        for document in source.documents(drops):
            group, identity = f"{number}:{document.group}", f"{number}:{document.id}"
            yield dataclasses.replace(document, id=identity, group=group)


def _batched(documents: Iterator[Document]) -> Iterator[tuple[list[Document], bool]]:
    """(documents, whether a shard ends after them). Batches bound memory; shards follow from the documents alone."""
    batch, in_batch, in_shard = list[Document](), 0, 0
    for document in documents:
        if batch and (document.source != batch[-1].source or in_shard >= SHARD_CHARACTERS):
            yield batch, True
            batch, in_batch, in_shard = [], 0, 0
        elif in_batch >= _BATCH_CHARACTERS or len(batch) >= _BATCH_DOCUMENTS:
            yield batch, False
            batch, in_batch = [], 0
        batch.append(document)
        in_batch += len(document.text)
        in_shard += len(document.text)
    if batch:
        yield batch, True


def _hash_share(identity: str, seed: int) -> float:
    return xxhash.xxh3_64_intdigest(identity.encode(), seed=seed & (2**64 - 1)) / 2**64


def _silent(event: str, **fields: Any) -> None:
    pass
