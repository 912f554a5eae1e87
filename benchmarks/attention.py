"""Attention by length: explicit products against SDPA on a CPU, which is what `EXPLICIT_UP_TO` rests on.

One attention layer of four heads, rotary, compiled, forward and backward over the same number of tokens at every length;
the kinds alternate. On CUDA: SDPA as it chooses itself against each of its kernels, and for rows whose documents see only
themselves SDPA with a mask against FlexAttention and variable-length attention.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from measure import Record, alternate, parser
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from workload import compute_dtype

from gpuday.models import attention
from gpuday.models.mixers import Place
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.visible import Kernel, Visible
from gpuday.train.device import pick_device, synchronise

WIDTH, TOKENS = 256, {"cpu": 8192, "cuda": 65536}
KERNELS = {"flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION, "math": SDPBackend.MATH}
DOCUMENT_KERNELS: tuple[Kernel, ...] = ("sdpa", "flex", "varlen")
DOCUMENTS = 4  # in a row, on average

Call = Callable[[Tensor], Tensor]


def main() -> None:
    """Every length that was asked for."""
    arguments = parser(__doc__, lengths="64,128,192,256,384,512").parse_args()
    record = Record("attention", arguments.out)
    for length in ["128", "512"] if arguments.quick else arguments.lengths:
        figures, shape = measure(int(length), pick_device(), rounds=7 if arguments.quick else 15)
        record.add(length, shape=shape, figures=figures)
    record.table()


def measure(length: int, device: torch.device, *, rounds: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tokens/s of each kind, and the ratio of each to SDPA as it chooses itself."""
    torch.compiler.reset()
    tokens = TOKENS[device.type] // length * length
    place = Place(
        width=WIDTH, layer=0, depth=1, length=length, qkv_bias=False, bias=False, position="rotary", dropout=0.0
    )
    layer = Softmax().build(place).to(device)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.02)
    x = torch.randn(tokens // length, length, WIDTH, device=device, dtype=compute_dtype(device), requires_grad=True)
    kinds = _on_cuda(layer, x) if device.type == "cuda" else _on_cpu(layer)
    seconds = alternate({name: partial(_once, call, x) for name, call in kinds.items()}, rounds=rounds, warm_up=3)
    figures: dict[str, Any] = {f"{name}_tokens_per_second": s.rate(tokens) for name, s in seconds.items()}
    for name, spread in seconds.items():
        against = "sdpa documents" if name.endswith("documents") else "sdpa"
        if name != against:
            figures[f"{name}_over_{against}"] = seconds[against].median / spread.median
    shape = {"width": WIDTH, "head_width": Softmax().head_width, "length": length, "tokens": tokens}
    return figures, shape


def _once(call: Call, x: Tensor) -> None:
    call(x).backward(torch.ones_like(x))
    synchronise(x.device)


def _whole_rows(layer: nn.Module) -> Call:
    def forward(x: Tensor) -> Tensor:
        y: Tensor = layer(x, Visible())
        return y

    return forward


def _on_cpu(layer: nn.Module) -> dict[str, Call]:
    compiled = torch.compile(_whole_rows(layer), dynamic=False)

    def limited(x: Tensor, limit: int) -> Tensor:
        with _explicit_up_to(limit):  # the compiler keeps a variant for each limit, and picks by its value
            y: Tensor = compiled(x)
        return y

    return {"explicit": partial(limited, limit=1 << 30), "sdpa": partial(limited, limit=0)}


@contextmanager
def _explicit_up_to(limit: int) -> Iterator[None]:
    before = attention.EXPLICIT_UP_TO
    attention.EXPLICIT_UP_TO = limit
    try:
        yield
    finally:
        attention.EXPLICIT_UP_TO = before


def _on_cuda(layer: nn.Module, x: Tensor) -> dict[str, Call]:
    segments = (torch.rand(x.shape[:2], device=x.device) < (DOCUMENTS - 1) / x.shape[1]).cumsum(1).to(torch.int32)
    kinds: dict[str, Call] = {"sdpa": torch.compile(_whole_rows(layer), dynamic=False)}
    kinds |= {name: _of_kernel(layer, backend) for name, backend in KERNELS.items()}
    return kinds | {f"{kernel} documents": _of_documents(layer, segments, kernel) for kernel in DOCUMENT_KERNELS}


def _of_kernel(layer: nn.Module, backend: SDPBackend) -> Call:
    """The kernel is chosen inside of what is compiled: outside, the compiler would keep the one that it met first."""

    def forward(x: Tensor) -> Tensor:
        with sdpa_kernel(backend):
            y: Tensor = layer(x, Visible())
        return y

    return torch.compile(forward, dynamic=False)


def _of_documents(layer: nn.Module, segments: Tensor, kernel: Kernel) -> Call:
    def forward(x: Tensor) -> Tensor:
        y: Tensor = layer(x, Visible(segments=segments, kernel=kernel))
        return y

    return torch.compile(forward, dynamic=False)


if __name__ == "__main__":
    main()
