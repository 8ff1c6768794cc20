"""Cases of tampering and of bad power: evidence, alarm, response, and how each was closed."""
