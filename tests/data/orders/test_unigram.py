from pathlib import Path
from types import SimpleNamespace

import numpy as np

from gpuday.data.orders.unigram import Unigram
from gpuday.data.tokenfile import TokenStore, TokenWriter

ROWS = np.array([[5, 5, 5, 5], [5, 6, 7, 8], [6, 6, 5, 5]])


def store(folder: Path) -> TokenStore:
    writer = TokenWriter(folder, length=4, vocab_size=64, vocabulary="v")
    writer.append(ROWS)
    writer.end_shard("s", np.array([0]))
    return writer.finish()


def test_the_score_is_the_mean_log_frequency_of_the_tokens(tmp_path: Path) -> None:
    """Worked by hand: of twelve tokens 5 has seven, 6 three, 7 and 8 one each."""
    score = Unigram().score()
    assert score is not None
    found = np.concatenate(list(score.compute(store(tmp_path / "a"), SimpleNamespace(vocab_size=64))))  # type: ignore[arg-type]
    p = {5: 7 / 12, 6: 3 / 12, 7: 1 / 12, 8: 1 / 12}
    assert np.allclose(found, [np.mean([np.log(p[int(i)]) for i in row]) for row in ROWS])


def test_likely_rows_come_first_unless_reversed(tmp_path: Path) -> None:
    """The paper's order, and the one of its code's option of the same name."""
    prepared = store(tmp_path / "a")
    score = Unigram().score()
    assert score is not None
    prepared.write_scores(score.name, score.compute(prepared, SimpleNamespace(vocab_size=64)))  # type: ignore[arg-type]
    for order, expected in ((Unigram(), [0, 2, 1]), (Unigram(reverse=True), [1, 2, 0])):
        rows = order.rows(prepared, seed=0, epoch=0, expected_rows=3)
        assert rows(np.arange(3)).tolist() == expected
