"""The command line, with NaN in the losses of one rank, in the steps that begin with the rows that BAD_ROWS names."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from gpuday.cli import main

spec = importlib.util.spec_from_file_location("bad_numbers", Path(__file__).with_name("bad_numbers.py"))
assert spec is not None
assert spec.loader is not None
bad_numbers = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = bad_numbers  # dataclasses look their module up
spec.loader.exec_module(bad_numbers)

injector = bad_numbers.Injector().installed(pytest.MonkeyPatch())
if os.environ.get("RANK", "0") == os.environ["BAD_RANK"]:
    injector.bad.extend(bad_numbers.KINDS["NaN in the loss"](int(row)) for row in os.environ["BAD_ROWS"].split(","))
main()
