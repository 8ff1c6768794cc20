"""The distinct numbers of a column, by sorting it.

numpy's own ``unique`` builds a table of hashes, which takes ten times as long for columns of some
thousands that are nearly in order already, as those of a batch are.
"""

from __future__ import annotations

import numpy as np

from prewatt.core.bounds import Int64


def distinct(values: Int64) -> Int64:
    """Each of the numbers once, in order; a column of its own, also where all of them differ."""
    ordered = np.sort(values)
    if ordered.size == 0:
        return ordered
    is_first = np.empty(ordered.size, dtype=np.bool_)
    is_first[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    return ordered if is_first.all() else ordered[is_first]
