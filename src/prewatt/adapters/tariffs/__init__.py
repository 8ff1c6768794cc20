"""Price plans that other systems hold, one folder each, read into Prewatt's own vocabulary."""
