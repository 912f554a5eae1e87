"""`python -m gpuday` is `gpuday`."""

from gpuday.cli import main

main()
