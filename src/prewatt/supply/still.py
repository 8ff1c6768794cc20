"""Accounts that a look would leave as they are: found in a set, so that hardly any is looked at by itself.

After a night's posting nearly every account is connected, above zero, and between the same two levels as
before; of it there is nothing to decide, to write or to say, and only the amount to watch has moved with
what it spends. Whoever might be otherwise in any way is not still, and is looked at like ever.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import numpy as np

from prewatt.core.levels import still_levels
from prewatt.core.vocabulary import OrderKind, Outcome, RelayState
from prewatt.runtime.prepared import fetch, integers
from prewatt.supply.queries import rules

#: A watch above any balance: the next reading looks at the account, whatever it has.
EVERYTHING: Final = 2**62


class Still(NamedTuple):
    """An account that nothing has to be decided about; what is watched of it, before and now."""

    account_id: int
    property_id: int
    watched_micro: int
    watch_micro: int


def find_still(account_ids: Sequence[int], now: datetime) -> list[Still]:
    """Those of the accounts that a look of now would leave as they are, but for what is watched.

    The caller holds their locks. One that is watched at any balance is never among them: its rules are
    new, and nobody has looked at it by these.
    """
    by_place: defaultdict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for row in fetch(_STILL, [integers(account_ids), now]):
        by_place[row[1]].append(row)
    rules_of = rules(sorted(by_place), now)
    found: list[Still] = []
    for property_id, rows in by_place.items():
        columns = [np.array(each, dtype=np.int64) for each in list(zip(*rows, strict=True))[2:]]
        watched, available, spend, emergency, fired_mask = columns
        levels = rules_of[property_id].levels
        still, watch = still_levels(available, spend, emergency, levels, fired_mask)
        chosen = np.flatnonzero(still)
        found += [
            Still(rows[at][0], property_id, before, after)
            for at, before, after in zip(
                chosen.tolist(), watched[chosen].tolist(), watch[chosen].tolist(), strict=True
            )
        ]
    return found


#: Connected and above zero, with every relay closed and nothing under way that would open one; a
#: decision would say KEEP, which is stored of nobody whose cut is not held. What the levels came to
#: is what is stored, by readings of now.
_STILL: Final = f"""
SELECT a.account_id, a.property_id, a.watch_below, a.available, a.spend_per_day, s.emergency_micro,
       s.fired_mask
FROM account_state a JOIN supply_state s USING (account_id)
WHERE a.account_id = ANY(%s::bigint[]) AND a.watch_below < {EVERYTHING}
  AND a.available > -s.emergency_micro
  AND s.desired = {RelayState.CLOSED.value} AND NOT s.held AND s.reconsider_at IS NULL
  AND s.withheld_since IS NULL
  AND s.outcome NOT IN ({Outcome.HOLD.value}, {Outcome.STAY_CUT.value})
  AND s.would_mask = 0 AND (s.fired_mask = 0) = (s.level_fired_at IS NULL)
  AND NOT EXISTS (
      SELECT FROM meter_assignment w JOIN meter m ON m.id = w.meter_id AND m.has_relay
      LEFT JOIN meter_link l ON l.meter_id = w.meter_id
      LEFT JOIN supply_order o ON o.meter_id = w.meter_id AND o.state IN (1, 2, 3)
          AND o.kind = {OrderKind.DISCONNECT.value}
      WHERE w.account_id = a.account_id AND w.period @> %s::timestamptz
        AND (l.relay IS DISTINCT FROM {RelayState.CLOSED.value} OR o.id IS NOT NULL))
"""  # noqa: S608 - only our own numbers are put in
