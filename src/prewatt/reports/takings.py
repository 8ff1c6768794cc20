"""What a property took: money received, what of it went back, and what was paid out to people who left.

Each counts on the day on which it happened. A recharge that was taken back stays among what was
received, and what went back is beside it, on the day of the reversal. Credit that moved to the right
account never left the till, and counts once, as received.
"""

from __future__ import annotations

from datetime import datetime

from prewatt.reports.place import rows
from prewatt.reports.today import Takings


def takings(
    *, property_id: int, since: datetime, until: datetime | None, received_micro: int
) -> Takings:
    """The sums of [since, until), inside the caller's scope; of what was received the caller knows.

    A reversal is found by its document: the numbers of their series are few, and have an index.
    """
    ((taken_back, paid_out),) = rows(
        """SELECT (SELECT coalesce(sum(d.amount_micro), 0) FROM document d
                   WHERE d.legal_entity_id IN (SELECT id FROM legal_entity) AND d.series = 'V'
                     AND d.kind = 'reversal' AND d.property_id = %(property)s
                     AND d.issued_at >= %(since)s
                     AND (%(until)s::timestamptz IS NULL OR d.issued_at < %(until)s))::bigint,
                  (SELECT coalesce(sum(f.amount_micro), 0) FROM refund f
                   WHERE f.property_id = %(property)s AND f.state = 'paid'
                     AND f.paid_at >= %(since)s
                     AND (%(until)s::timestamptz IS NULL OR f.paid_at < %(until)s))::bigint""",
        {"property": property_id, "since": since, "until": until},
    )
    return Takings(received_micro, taken_back, paid_out)
