"""The list of a model's products, against the FLOPs formula that is tested by itself."""

from products import flops, products_of
from workload import Workload, workload

from gpuday.models.mixers.softmax import Softmax


def linear_flops(work: Workload) -> float:
    """The formula's FLOPs of a micro-batch, less those of attention's two products: 4 L D a layer and token, thrice."""
    model = work.recipe.model
    assert isinstance(model.mixer, Softmax) and model.mixer.window == 0
    attention = 3 * 4 * work.length * model.width * model.shape.depth
    return (work.flops_per_token - attention) * work.microbatch * work.length


def test_the_products_add_up_to_the_formula() -> None:
    """Walking the model's layers and the formula of models/flops.py count the same multiplications."""
    for name in ("nano", "compare", "base"):
        work = workload(name)
        assert abs(flops(products_of(work)) / linear_flops(work) - 1) < 1e-9


def test_the_comparison_shape_is_what_the_documentation_says() -> None:
    """4 layers of width 256, 16,384 entries, 128 tokens, 32 of them predicted, 1,024 gate and value columns."""
    work = workload("compare")
    shape = work.shape()
    expected = {"layers": 4, "width": 256, "vocabulary": 16384, "length": 128, "predicted": 32}
    assert expected == {key: shape[key] for key in expected}
    assert products_of(work)[work.microbatch * 128, 256, 1024] == 4
    assert shape["rows"] % shape["microbatch"] == 0
