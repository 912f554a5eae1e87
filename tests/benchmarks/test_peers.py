"""The peers' shapes, and how two times become a ratio."""

from pathlib import Path

import peer_cramming
import pytest
from measure import Spread
from peer_trainer import ARMS, build_config
from peers import figures
from workload import workload


def test_the_ratio_says_how_many_times_as_fast_ours_is() -> None:
    """100 tokens in 4 seconds against 2: 25 and 50 a second, ours twice as fast, and three times in the best rounds."""
    answer = figures(Spread(4.0, 3.0, 9.0, 5), 100, ours=Spread(2.0, 1.0, 2.5, 5))
    assert (2.0, 3.0) == (answer["ours_ratio"], answer["ours_best_ratio"])
    assert (25.0, 50.0) == tuple(answer[f"{side}_tokens_per_second"].median for side in ("theirs", "ours"))


@pytest.mark.parametrize("kind", sorted({setting.model for setting in ARMS.values()}))
def test_a_peer_has_our_shape_and_the_flops_of_our_feed_forward_network(kind: str) -> None:
    """Plain networks have two matrices, gated ones three: 2 D F for the one, 3 D F for the other, twice for FLOPs."""
    work = workload("compare")
    config = build_config(kind, work)
    assert (4, 256, 4, 16384) == (
        config.num_hidden_layers,
        config.hidden_size,
        config.num_attention_heads,
        config.vocab_size,
    )
    matrices = {"bert": 2, "modernbert": 3}[kind]
    flops = 2 * matrices * config.hidden_size * config.intermediate_size
    assert work.recipe.model.feedforward.flops_per_token(256) == flops


def test_a_folder_that_is_no_checkout_is_named(tmp_path: Path) -> None:
    """The error says which file was looked for."""
    with pytest.raises(SystemExit, match=r"crammed_bert\.py"):
        peer_cramming.build(tmp_path, workload("compare"))
