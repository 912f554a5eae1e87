"""The same architecture with fresh weights, as a subject of its own: what a score owes to pretraining is the rest."""

from collections.abc import Mapping
from dataclasses import replace

import torch
import xxhash
from torch import Tensor, nn

from gpuday.core.seeds import stream_seed
from gpuday.evaluate.huggingface import HuggingFaceBody
from gpuday.evaluate.subject import Subject, hash_tensors
from gpuday.train.assemble import make_learner
from gpuday.train.trained import Trained

FOLDER = "untrained"  # beside the folder of the subject's own scores
SEED = 0  # of the stream that a folder's fresh weights are drawn from


def untrained_run(subject: Subject, trained: Trained) -> Subject:
    """A run with the weights that its training began with: those that its recipe draws from its seed."""
    encoder = make_learner(trained.recipe, vocab=trained.tokenizer.vocab_size).model.encoder
    return _with(subject, encoder.state_dict())


def untrained_folder(subject: Subject) -> Subject:
    """A Hugging Face folder's class with new weights as that class draws them, from a named stream."""
    body = subject.body(dropout=0.0, dtype=torch.float32)
    assert isinstance(body, HuggingFaceBody), "a subject of a folder"
    model = body.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(SEED, FOLDER))
        fresh = type(model)(model.config)  # on the CPU, so that every device gets the same
    state = HuggingFaceBody(fresh, torch.float32).state_dict()
    # A pooler that the folder's lacks is left out.
    made = _with(subject, {name: state[name] for name in body.state_dict()})
    whole = f"{made.model_hash} {subject.model_hash}"  # the folder's config and tokenizer are in the latter
    return replace(made, model_hash=xxhash.xxh3_128_hexdigest(whole.encode()))


def _with(subject: Subject, state: Mapping[str, Tensor]) -> Subject:
    def body(dropout: float, dtype: torch.dtype) -> nn.Module:
        made = subject.body(dropout=dropout, dtype=dtype)
        made.load_state_dict(state)
        return made

    return replace(
        subject,
        name=f"{subject.name}, {FOLDER}",
        model_hash=hash_tensors(state.items()),
        scores=subject.scores.parent / FOLDER,
        make_body=body,
        make_predictor=None,
        no_predictor="its weights are fresh",
    )
