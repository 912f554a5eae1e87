"""Initial weights from one named random stream, independent of the order in which modules were built.

Normal samples with these deviations, D being the width and L how many blocks a token passes through:

- normal: `init_std` everywhere, as in BERT (Devlin et al., arXiv 1810.04805).
- small: sqrt(2 / (5 D)) everywhere (Nguyen & Salazar, arXiv 1910.05895).
- megatron: `init_std`, and `init_std` / sqrt(2 L) for outputs (Shoeybi et al., arXiv 1909.08053). What the code of
  arXiv 2212.14034 calls by this name is sqrt(1 / (3 D)) everywhere: normal, with that `init_std`.
- wang: small, and 2 / (L sqrt(D)) for outputs (Black et al., arXiv 2204.06745, after Wang's GPT-J).
- deepnorm: in blocks Xavier's sqrt(2 / (inputs + outputs)), times b = (8 L)^(-1/4) for values, outputs and networks;
  `init_std` elsewhere (Wang et al., arXiv 2203.00555, for encoders).

Outputs are the matrices that write into the residual stream; with `zero_output` they are zero, as in Zhang, Dauphin & Ma,
arXiv 1901.09321 (there for the residual branches' last layers).
"""

import torch
from torch import Tensor, nn

from gpuday.core.seeds import stream_seed
from gpuday.models.block import Block
from gpuday.models.encoder import EncoderConfig
from gpuday.models.linear import Linear


@torch.no_grad()
def initialise(model: nn.Module, config: EncoderConfig, seed: int, *, stream: str = "init") -> None:
    """Fill every matrix from its own stream `<stream>/<parameter name>`; norms and biases keep ones and zeros."""
    outputs = {f"{name}.weight" for name, m in model.named_modules() if isinstance(m, Linear) and m.is_output}
    in_blocks = _xavier(model, config) if config.init == "deepnorm" else {}
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            continue
        if config.zero_output and name in outputs:
            parameter.zero_()
            continue
        generator = torch.Generator().manual_seed(stream_seed(seed, f"{stream}/{name}"))
        std = in_blocks.get(parameter, _deviation(config, is_output=name in outputs))
        values = torch.randn(parameter.shape, generator=generator) * std
        parameter.copy_(values.to(parameter.device))


def _deviation(config: EncoderConfig, *, is_output: bool) -> float:
    """Of one matrix or table, but for deepnorm's blocks."""
    small, depth = (2.0 / (5.0 * config.width)) ** 0.5, config.shape.depth
    plain, output = {
        "normal": (config.init_std, config.init_std),
        "small": (small, small),
        "megatron": (config.init_std, config.init_std / (2.0 * depth) ** 0.5),
        "wang": (small, 2.0 / (depth * config.width**0.5)),
        "deepnorm": (config.init_std, config.init_std),
    }[config.init]
    return output if is_output else plain


def _xavier(model: nn.Module, config: EncoderConfig) -> dict[Tensor, Tensor]:
    """Deviations of the blocks' matrices for deepnorm, each [outputs, 1]: stacked matrices count one by one."""
    gain = (8.0 * config.shape.depth) ** -0.25
    found: dict[Tensor, Tensor] = {}
    for block in model.modules():
        if not isinstance(block, Block):
            continue
        network = set() if block.feedforward is None else set(block.feedforward.modules())
        for layer in block.modules():
            if isinstance(layer, Linear):
                rows, inputs = layer.weight.shape
                std = torch.full((rows, 1), (2.0 / (inputs + rows // layer.fused)) ** 0.5)
                if layer.is_output or layer in network:
                    std *= gain
                elif layer.fused > 1:  # the last of what a mixer stacks makes the values
                    std[-(rows // layer.fused) :] *= gain
                found[layer.weight] = std
    return found
