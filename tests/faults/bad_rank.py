"""The command line, with NaN in the losses of one rank, in the steps that begin with the rows that BAD_ROWS names."""

import os

import bad_numbers
import pytest

from gpuday.cli import main

injector = bad_numbers.Injector().installed(pytest.MonkeyPatch())
if os.environ.get("RANK", "0") == os.environ["BAD_RANK"]:
    injector.bad.extend(bad_numbers.KINDS["NaN in the loss"](int(row)) for row in os.environ["BAD_ROWS"].split(","))
main()
