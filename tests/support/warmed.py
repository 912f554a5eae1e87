"""What `warm.py` has loaded before it forks: the libraries that a run imports in its course, and nothing of the package.

So a script may still change what the package will bind, as `tests/faults/cputime.py` does with the clocks.
"""

import gc
import importlib

LIBRARIES = (
    *("cyclopts", "jinja2", "numpy", "psutil", "rich.progress", "safetensors.torch", "scipy.stats", "tokenizers"),
    *("torch", "torch._dynamo", "torch.distributed", "torch.nn.attention.flex_attention", "transformers", "xxhash"),
)
for name in LIBRARIES:
    importlib.import_module(name)
assert importlib.import_module("transformers").ModernBertForMaskedLM  # found when it is asked for
gc.freeze()  # what is never let go of is not looked through, and so not copied, in each of the forks
