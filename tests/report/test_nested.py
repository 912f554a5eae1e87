"""A nested table as indented rows."""

from gpuday.report.nested import DEEPEST, LONGEST, Block, Line, blocks


def test_plain_values_come_first_and_tables_each_in_a_block() -> None:
    """Hand-written: a part's name stands beside its key, its knobs below."""
    table = {"seed": 7, "model": {"width": 256, "tied": True, "shape": {"part": "plain", "layers": 4}}, "note": ""}
    assert blocks(table, title="run") == [
        Block("run", (Line(0, "seed", "7"), Line(0, "note", '""'))),
        Block(
            "model",
            (
                Line(0, "width", "256"),
                Line(0, "tied", "true"),
                Line(0, "shape", "plain", part=True),
                Line(1, "layers", "4"),
            ),
        ),
    ]


def test_a_list_of_parts_is_numbered() -> None:
    """Filters have an order and knobs of their own."""
    (block,) = blocks({"data": {"filters": [{"part": "length", "least": 5}, {"part": "repeats"}]}}, title="run")
    assert block.lines == (
        Line(0, "filters 1", "length", part=True),
        Line(1, "least", "5"),
        Line(0, "filters 2", "repeats", part=True),
    )


def test_depth_and_length_have_an_end() -> None:
    """A damaged or hostile file gives a finite page."""
    deep: dict[str, object] = {"x": 1}
    for _ in range(200):
        deep = {"d": deep}
    assert max(line.depth for block in blocks(deep, title="run") for line in block.lines) == DEEPEST
    wide = {"d": {str(i): i for i in range(10_000)}}
    (block,) = blocks(wide, title="run")
    assert len(block.lines) == LONGEST + 1
    assert block.lines[-1].value == "more in the file"


def test_an_empty_table_has_no_block() -> None:
    """Nothing is shown for nothing."""
    assert blocks({}, title="run") == []
