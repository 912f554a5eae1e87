"""Initial weights from one named random stream, independent of the order in which modules were built.

Normal with a fixed deviation as in BERT (Devlin et al., arXiv 1810.04805); zero output projections as in Zhang, Dauphin
& Ma, arXiv 1901.09321 (there for the residual branches' last layers).
"""

import torch
from torch import nn

from gpuday.core.seeds import stream_seed
from gpuday.models.encoder import EncoderConfig
from gpuday.models.linear import Linear


@torch.no_grad()
def initialise(model: nn.Module, config: EncoderConfig, seed: int) -> None:
    """Fill every matrix from its own stream `init/<parameter name>`; norms and biases keep ones and zeros."""
    outputs = {f"{name}.weight" for name, m in model.named_modules() if isinstance(m, Linear) and m.is_output}
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            continue
        if config.zero_output and name in outputs:
            parameter.zero_()
            continue
        generator = torch.Generator().manual_seed(stream_seed(seed, f"init/{name}"))
        values = torch.randn(parameter.shape, generator=generator) * config.init_std
        parameter.copy_(values.to(parameter.device))
