"""Trained runs as folders that plain Hugging Face Transformers loads, proved equal to our model before they appear."""
