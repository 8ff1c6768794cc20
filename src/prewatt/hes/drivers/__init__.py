"""One folder per protocol: codec, README, captured frames and quality level, all in one place."""
