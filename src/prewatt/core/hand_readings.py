"""How much energy a register read by a person may charge before a second pair of eyes is asked.

Validation holds what a meter cannot have counted at its full rating. That bound is far above what
anybody uses: one operator alone could charge an account empty below it. So what one operator enters
is held to what the meter usually counts. Pure: energy is Wh, time is seconds, power is watts.
"""

from __future__ import annotations

from typing import Final

MULTIPLE: Final = 5
"""So many times its usual usage is plausible of a meter."""
RATED_SHARE: Final = 10
"""Without a day of history, one part in so many of the meter's rating counts as usual."""
LEAST_WH: Final = 2_000
"""So little is never questioned, however little a meter usually counts."""
HISTORY_S: Final = 30 * 86_400
"""So far back usage is looked at."""
ENOUGH_S: Final = 86_400
"""A shorter history says nothing about what is usual."""
_HOUR_S: Final = 3_600


def plausible_wh(*, elapsed_s: int, history_wh: int, history_s: int, max_power_w: int) -> int:
    """The most that a person may enter alone for a time of ``elapsed_s``.

    ``history_wh`` was used in the ``history_s`` before it. Never more than the rating allows.
    """
    rated = max_power_w * elapsed_s // _HOUR_S
    if history_s >= ENOUGH_S:
        usual = MULTIPLE * max(0, history_wh) * elapsed_s // history_s
    else:
        usual = rated // RATED_SHARE
    return min(max(usual, LEAST_WH), max(rated, LEAST_WH))
