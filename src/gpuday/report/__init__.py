"""Reads run directories and shows them: one HTML page for a run, one table for many. Never touches live objects."""
