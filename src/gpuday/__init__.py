"""gpuday: text in, a fixed amount of time on one device, the best encoder out, with the evidence."""

__version__ = "0.1.0"
