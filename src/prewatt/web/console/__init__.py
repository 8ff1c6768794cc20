"""The console: what property staff see. One view, one domain call."""
