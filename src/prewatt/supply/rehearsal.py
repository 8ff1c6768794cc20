"""What a process does once at its start so that its first decision does not wait for it.

The first look at a property's rules loads the holidays of every country and works out decades of
clock changes: a tenth of a second and more on an idle machine, a whole one on a busy machine, and
all of it between the last gate of somebody's cut, or their recharge, and the relay.
"""

from __future__ import annotations

import logging
from datetime import datetime

from django.db import InterfaceError, OperationalError, connection

from prewatt.access.scope import Actor, require, scope
from prewatt.core.civil_time import instant_us
from prewatt.core.cut_window import is_open, next_open_at_us
from prewatt.supply import queries

log = logging.getLogger(__name__)


def rehearse(*, actor: Actor, now: datetime) -> int:
    """Compile every property's rules and look through its permitted hours; returns how many.

    Changes nothing. A database that is away is no reason not to start: the first decision then
    takes its time.
    """
    require(actor, "supply.decide")
    try:
        with scope(actor), connection.cursor() as cursor:
            cursor.execute("SELECT id FROM property ORDER BY id")
            rules = queries.rules([row[0] for row in cursor.fetchall()], now)
    except (OperationalError, InterfaceError) as error:
        log.warning("the rules of supply could not be read ahead: %s", error)
        return 0
    for each in rules.values():
        is_open(each.supply.window, instant_us(now))
        next_open_at_us(each.supply.window, instant_us(now))
    return len(rules)
