"""A learner's parameters as optimizers want them: named, with their role and what is fused in them."""

from gpuday.models.linear import Embedding, Linear
from gpuday.models.position import AddedPositions
from gpuday.objectives import Learner
from gpuday.optim import Named, Role


def named_parameters(learner: Learner) -> list[Named]:
    """Every parameter that is trained, once, tied ones under their first name, in the order of the modules."""
    fused = {id(m.weight): m.fused for m in learner.modules() if isinstance(m, Linear)}
    tables = {id(m.weight) for m in learner.modules() if isinstance(m, Embedding)}
    tables |= {id(m.table) for m in learner.modules() if isinstance(m, AddedPositions)}
    rows = []
    for name, tensor in learner.named_parameters():
        if not tensor.requires_grad:
            continue
        is_table = id(tensor) in tables or name.endswith(".decoder")  # an untied decoder has a row for every entry too
        role: Role = "vector" if tensor.dim() < 2 else "embedding" if is_table else "matrix"
        rows.append(Named(name=name, tensor=tensor, role=role, fused=fused.get(id(tensor), 1)))
    return rows
