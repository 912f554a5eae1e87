"""Encoders as parts: what mixes positions, the feed-forward network and the shape are files; the rest are arguments."""
