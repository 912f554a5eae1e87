"""Evaluation of a trained run: fine-tuning on tasks, word bits per byte, and filled masks."""
