from pathlib import Path

import numpy as np
import pytest

from gpuday.data.orders.sentences import Sentences
from gpuday.data.tokenfile import TokenWriter
from gpuday.data.tokenizer import train_tokenizer


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_rows_of_many_full_stops_come_first(tmp_path: Path, kind: str) -> None:
    """Counted in the text that the rows decode to."""
    texts = ["one two three four. five six", "one. two. three. four.", "one two three four five six"]
    tokenizer, _ = train_tokenizer(iter(texts * 20), kind=kind, normalizer="light", vocab=320)  # type: ignore[arg-type]
    rows = np.array([ids[:6] for ids in tokenizer.encode_batch(texts)])
    writer = TokenWriter(tmp_path / "a", length=6, vocab_size=tokenizer.vocab_size, vocabulary="v")
    writer.append(rows)
    writer.end_shard("s", np.array([0]))
    store, score = writer.finish(), Sentences().score()
    assert score is not None
    store.write_scores(score.name, score.compute(store, tokenizer))
    assert store.scores("sentences").tolist() == [tokenizer.decode(row.tolist()).count(".") for row in rows]
    for order, expected in ((Sentences(), [1, 0, 2]), (Sentences(reverse=True), [2, 0, 1])):
        assert order.rows(store, seed=0, epoch=0, expected_rows=3)(np.arange(3)).tolist() == expected
