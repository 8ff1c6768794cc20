"""Bulks: one order to many meters, agreed to by its size, sent at a pace, stopped by one press or by itself.

What is agreed to is the order word for word: what, to which meters (by their number and a digest of who they are), how
fast and up to which share of failures. Asking does nothing that a tenant feels. Connections that stand can be sent
again in bulk; nobody is ever cut by one: there is no such word here, in the table's check or on the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.kinds import Agreed, Changed, Kind, saying_what_changed
from prewatt.approvals.operations import Wanted, wanted_change
from prewatt.audit.operations import record
from prewatt.core.fleet import PER_GATEWAY_MIN_MAX, PER_S_MAX, drivers_that_can
from prewatt.core.vocabulary import BulkState, RequestKind, RequestState
from prewatt.fleet.drift import KNOWN_DRIFT_S
from prewatt.fleet.requests import HISTORY_MAX
from prewatt.notify.alerts import BULK_BRAKED
from prewatt.notify.operations import close_alert
from prewatt.runtime.bells import ring

KIND: Final = "fleet.bulk"
METERS_MAX: Final = 50_000
#: By what meters are chosen: words of a page, conditions of ours. A text is found in the serial number.
FILTERS: Final[Mapping[str, str]] = {
    "driver": "m.driver = %(driver)s",
    "model": "m.model = %(model)s",
    "firmware": "coalesce(l.firmware, '') = %(firmware)s",
    "gateway": "coalesce(nullif(r.gateway, ''), k.serial, '') = %(gateway)s",
    "building": "b.code = %(building)s",
    "serial": "m.serial ILIKE %(serial)s",
}
KINDS: Final = {each.word: each for each in RequestKind}


class BulkRefused(Exception):
    """There is nothing to agree to or to move. ``reason``: `kind`, `none` (no meter can be asked this), `many`, `pace`,
    `bound`, `span`; of a bulk that is there `unknown`, `state` (it cannot go there from where it is).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class BulkOrder:
    """What somebody wants of many meters. ``chosen`` is by words of `FILTERS`; ``per_s`` is over all of them."""

    kind: RequestKind
    chosen: Mapping[str, str] = field(default_factory=dict)
    per_s: int = 5
    per_gateway_min: int = 60
    bound_percent: int = 20
    from_at: datetime | None = None
    to_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The meters that can be asked, each with its gateway and the seconds that its clock is to be moved by; and how
    many more match, whose driver cannot.
    """

    meters: tuple[int, ...]
    gateways: tuple[str, ...]
    moves: tuple[int, ...]
    cannot: int

    @property
    def by_gateway(self) -> int:
        """How many gateways they are behind; meters with a line of their own are behind none."""
        return len({each for each in self.gateways if each})


def choose(*, actor: Actor, property_id: int, order: BulkOrder, now: datetime) -> Chosen:
    """The dry run: who would be asked. Raises BulkRefused."""
    require(actor, "fleet.ask", property_id=property_id)
    with scope(actor):
        return _chosen(property_id, order.kind, order.chosen, now)


def wanted_bulk(*, actor: Actor, property_id: int, order: BulkOrder, now: datetime) -> Wanted:
    """What proposing a bulk would ask for. Raises BulkRefused."""
    require(actor, "fleet.ask", property_id=property_id)
    _refuse(order, now)
    with scope(actor), connection.cursor() as cursor:
        chosen = _chosen(property_id, order.kind, order.chosen, now)
        if not chosen.meters:
            raise BulkRefused("none")
        if len(chosen.meters) > METERS_MAX:
            raise BulkRefused("many")
        cursor.execute("SELECT meters_digest(%s)", [list(chosen.meters)])
        (digest,) = cursor.fetchone()
        effect: dict[str, Any] = {
            "do": order.kind.word, "chosen": dict(order.chosen), "amount": len(chosen.meters),
            "meters": digest, "cannot": chosen.cannot, "gateways": chosen.by_gateway,
            "per_s": order.per_s, "per_gateway_min": order.per_gateway_min,
            "bound_percent": order.bound_percent,
        }  # fmt: skip
        if order.kind is RequestKind.HISTORY:
            assert order.from_at is not None and order.to_at is not None, "refused before"
            effect |= {"from": order.from_at.isoformat(), "to": order.to_at.isoformat()}
        return wanted_change(
            kind=KIND, property_id=property_id, subject=f"fleet:{order.kind.word}", effect=effect
        )


def _refuse(order: BulkOrder, now: datetime) -> None:
    if not set(order.chosen) <= set(FILTERS):
        raise BulkRefused("kind")
    if not (1 <= order.per_s <= PER_S_MAX and 1 <= order.per_gateway_min <= PER_GATEWAY_MIN_MAX):
        raise BulkRefused("pace")
    if not 1 <= order.bound_percent <= 100:
        raise BulkRefused("bound")
    if order.kind is not RequestKind.HISTORY:
        return
    since, until = order.from_at, order.to_at
    if since is None or until is None or not since < until <= now or until - since > HISTORY_MAX:
        raise BulkRefused("span")


def _chosen(
    property_id: int, kind: RequestKind, chosen: Mapping[str, str], now: datetime
) -> Chosen:
    where = "".join(f" AND {FILTERS[word]}" for word in chosen)
    given: dict[str, Any] = {**chosen, "property": property_id, "now": now}
    if "serial" in chosen:
        plain = chosen["serial"].replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        given["serial"] = f"%{plain}%"
    able = {str(each) for each in drivers_that_can(kind)}
    with connection.cursor() as cursor:
        cursor.execute(_CHOSEN + where + " ORDER BY m.id", given)
        rows = cursor.fetchall()
    asked = [
        row for row in rows if row[1] in able and (kind is not RequestKind.RECONNECT or row[4])
    ]
    return Chosen(
        tuple(row[0] for row in asked),
        tuple(row[2][:60] for row in asked),
        tuple(-row[3] for row in asked),
        len(rows) - len(asked),
    )


_CHOSEN: Final = f"""
SELECT m.id, m.driver, coalesce(nullif(r.gateway, ''), k.serial, ''), coalesce({KNOWN_DRIFT_S}, 0), m.has_relay
FROM meter m
JOIN installation i ON i.meter_id = m.id AND i.period @> %(now)s::timestamptz
JOIN metering_point p ON p.id = i.metering_point_id
LEFT JOIN unit u ON u.id = p.unit_id LEFT JOIN building b ON b.id = u.building_id
LEFT JOIN meter_link l ON l.meter_id = m.id
LEFT JOIN radio_link r ON r.meter_id = m.id
LEFT JOIN concentrator k ON k.id = l.concentrator_id
WHERE m.property_id = %(property)s
"""  # noqa: S608 - our own expression


def _begin(actor: Actor, agreed: Agreed, now: datetime) -> None:
    """Begin what was agreed to, for the meters that match now: void, where they are not those any more."""
    effect = agreed.effect
    kind = KINDS.get(str(effect["do"]))
    if kind is None:
        raise Changed("bulk")
    with scope(actor), connection.cursor() as cursor:
        chosen = _chosen(agreed.property_id, kind, effect["chosen"], now)
        with saying_what_changed():
            cursor.execute(
                "SELECT begin_bulk(%s, %s, %s, %s, %s, %s, %s, %s, %s)",
                [
                    agreed.property_id, agreed.subject, agreed.proposal_id, agreed.made_by,
                    agreed.reason, list(chosen.meters), list(chosen.gateways), list(chosen.moves), now,
                ],
            )  # fmt: skip
        (bulk_id,) = cursor.fetchone()
        record(
            actor=agreed.made_by, code="fleet.bulk.begun", property_id=agreed.property_id,
            subject=f"bulk:{bulk_id}", now=now, kind=kind.word, meters=len(chosen.meters),
            approved_by=actor.code, reason=agreed.reason, proposal=agreed.proposal_id,
        )  # fmt: skip
        ring("changed", [agreed.property_id])


BULK: Final = Kind(KIND, _begin)

#: Where a person moves a bulk to, and from where.
MOVES: Final[Mapping[str, tuple[BulkState, Sequence[BulkState]]]] = {
    "pause": (BulkState.PAUSED, (BulkState.RUNNING,)),
    "resume": (BulkState.RUNNING, (BulkState.PAUSED, BulkState.BRAKED)),
    "stop": (BulkState.STOPPED, (BulkState.RUNNING, BulkState.PAUSED, BulkState.BRAKED)),
}


def move_bulk(*, actor: Actor, property_id: int, bulk_id: int, deed: str, now: datetime) -> None:
    """Pause, resume or stop a bulk, by one press: what was not sent by then stays, or is cancelled for good.

    Raises BulkRefused `unknown`, `state`.
    """
    require(actor, "fleet.ask", property_id=property_id)
    to, from_ = MOVES[deed]
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            "SELECT state FROM fleet_bulk WHERE id = %s AND property_id = %s FOR UPDATE",
            [bulk_id, property_id],
        )
        found = cursor.fetchone()
        if found is None:
            raise BulkRefused("unknown")
        if found[0] not in from_:
            raise BulkRefused("state")
        # Whoever moves it on has seen that it stopped by itself.
        close_alert(property_id=property_id, code=BULK_BRAKED, subject=f"bulk:{bulk_id}", now=now)
        # A pause saves up no pace.
        cursor.execute(
            """UPDATE fleet_bulk SET state = %s, state_at = %s, state_by = %s,
                   used_to = greatest(used_to, %s) WHERE id = %s""",
            [int(to), now, actor.code, now, bulk_id],
        )
        cancelled = 0
        if to is BulkState.STOPPED:
            cursor.execute(
                """UPDATE meter_request SET state = %s, ended_at = %s, next_try_at = NULL, result = 'stopped'
                   WHERE bulk_id = %s AND state = %s""",
                [int(RequestState.CANCELLED), now, bulk_id, int(RequestState.WAITING)],
            )
            cancelled = cursor.rowcount
        record(
            actor=actor.code, code=f"fleet.bulk.{deed}", property_id=property_id,
            subject=f"bulk:{bulk_id}", now=now, cancelled=cancelled, was=BulkState(found[0]).word,
        )  # fmt: skip
        ring("changed", [property_id])
