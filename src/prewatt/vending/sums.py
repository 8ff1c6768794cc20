"""Three ways to what customers have left, each added up from rows of its own: cash, ledger, meters.

From the money: payments as they were taken, and every transfer that was not one. From the ledger: all
transfers. From the meters: what the accounts say is available, which is what each cut and each
recharge goes by. The first two have the charges subtracted that no posting has taken yet, added up
from the intervals. It reads every row, so it is for the night and never for a page; one statement
sees one state of the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from prewatt.core.accounts import CounterAccount, TransferKind


class Cursor(Protocol):
    """What is needed of a database cursor: Django's and psycopg's both have it."""

    def execute(self, query: Any, params: Any = None, /) -> Any:
        """Run one statement."""

    def fetchall(self) -> Any:
        """Return the rows of the last statement."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The three sums of a property in micro-units; ``holds`` where they are one."""

    property_id: int
    cash_micro: int
    ledger_micro: int
    meters_micro: int

    @property
    def holds(self) -> bool:
        """Whether there is no difference."""
        return self.difference_micro == 0

    @property
    def difference_micro(self) -> int:
        """How far the three are apart."""
        three = (self.cash_micro, self.ledger_micro, self.meters_micro)
        return max(three) - min(three)


#: A payment and the transfers of its event are written by one deed; a payment that went back is a
#: reversal against cash or bank, which has no payment of its own.
_SUMS: Final = """
WITH moved AS (
    SELECT property_id, sum(amount) AS total,
           sum(amount) FILTER (WHERE NOT (counter_account = ANY(%(tills)s) AND kind <> %(reversal)s))
               AS other
    FROM transfer WHERE property_id = ANY(%(properties)s) GROUP BY property_id),
paid AS (
    SELECT property_id, sum(amount_micro) AS total FROM payment
    WHERE property_id = ANY(%(properties)s) GROUP BY property_id),
used AS (
    SELECT s.property_id, sum(s.available) AS available, sum(i.charges) AS unposted
    FROM account_state s
    LEFT JOIN LATERAL (
        SELECT sum(charge_energy + charge_standing + charge_tax + charge_fee + charge_demand
                   + charge_subsidy) AS charges
        FROM interval i WHERE i.account_id = s.account_id AND i.interval_no > s.posted_interval_no
    ) i ON true
    WHERE s.property_id = ANY(%(properties)s) GROUP BY s.property_id)
SELECT p.id,
       (coalesce(paid.total, 0) + coalesce(moved.other, 0) - coalesce(used.unposted, 0))::bigint,
       (coalesce(moved.total, 0) - coalesce(used.unposted, 0))::bigint,
       coalesce(used.available, 0)::bigint
FROM unnest(%(properties)s::bigint[]) AS p(id)
LEFT JOIN moved ON moved.property_id = p.id
LEFT JOIN paid ON paid.property_id = p.id
LEFT JOIN used ON used.property_id = p.id
ORDER BY p.id
"""


def sums_of(cursor: Cursor, property_ids: Sequence[int]) -> list[Proof]:
    """The three sums of these properties as the cursor sees them; nothing is kept."""
    cursor.execute(
        _SUMS,
        {
            "properties": list(property_ids),
            "tills": [int(CounterAccount.CASH), int(CounterAccount.BANK)],
            "reversal": int(TransferKind.REVERSAL),
        },
    )
    return [Proof(*row) for row in cursor.fetchall()]
