"""Keys that sign what leaves Prewatt: one interface for every signer, one role for every key."""
