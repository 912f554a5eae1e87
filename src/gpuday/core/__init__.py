"""What every room may import: configs, the clock, run directories, the journal, seeds, parts, errors. No torch."""
