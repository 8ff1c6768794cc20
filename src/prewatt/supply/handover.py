"""What one payer's supply leaves behind at a meter, so that it never reaches the next one.

Called inside the transaction of a move, which holds the ``account_state`` locks of both payers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import connection

from prewatt.core.vocabulary import OrderKind, OrderState, RelayState

_LIVE = [int(OrderState.DECIDED), int(OrderState.SENT), int(OrderState.ACKNOWLEDGED)]


def take_over(
    *, from_account_id: int, to_account_id: int, meter_ids: Sequence[int], now: datetime
) -> None:
    """Let no order or held cut of the former payer reach the next, who can still close a relay.

    A relay that is open, or may be opened by an order that has gone out, stays so until the next
    payer's first credit, which closes it.
    """
    opening = withdraw_orders(meter_ids=meter_ids, now=now)
    _forget_cut(from_account_id)
    if opening or _relay_is_open(meter_ids):
        _expect_open_relay(to_account_id)


def withdraw_orders(*, meter_ids: Sequence[int], now: datetime) -> bool:
    """Supersede the unfinished orders of meters; whether one of them was to open a relay.

    An order that has gone out may still be carried out, so its relay must be thought open.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE supply_order SET state = %s, finished_at = %s, next_try_at = NULL
               WHERE meter_id = ANY(%s) AND state = ANY(%s)
               RETURNING kind""",
            [int(OrderState.SUPERSEDED), now, list(meter_ids), _LIVE],
        )
        return any(row[0] == OrderKind.DISCONNECT for row in cursor.fetchall())


def _relay_is_open(meter_ids: Sequence[int]) -> bool:
    """Whether any of the meters' relays was last read back as open."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM meter_link WHERE meter_id = ANY(%s) AND relay = %s)",
            [list(meter_ids), int(RelayState.OPEN)],
        )
        row = cursor.fetchone()
    return row is not None and bool(row[0])


def _forget_cut(account_id: int) -> None:
    """Nobody decides again about an account that has left its unit."""
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE supply_state SET held = false, reconsider_at = NULL, desired = %s
               WHERE account_id = %s""",
            [int(RelayState.CLOSED), account_id],
        )


def _expect_open_relay(account_id: int) -> None:
    """The relay is open for a former payer's sake: the first credit of this one shall close it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE supply_state SET desired = %s WHERE account_id = %s",
            [int(RelayState.OPEN), account_id],
        )
