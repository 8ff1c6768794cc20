"""Instructions that meters verify: their keys, their sequences, what was sent and what was answered."""
