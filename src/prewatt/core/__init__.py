"""Pure arithmetic and decisions: money, civil time, tariffs, rating, validation.

Nothing here reads a clock, a database, the network or chance: the same arguments give the same
answer, which is what lets a statement be recomputed years later and compared bit by bit.
"""
