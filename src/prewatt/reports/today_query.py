"""Reads Today with a handful of set-based statements: one for all units, then the day's flows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from prewatt.access.scope import Actor, scope
from prewatt.core.vocabulary import DeliveryState, OrderKind, RelayState
from prewatt.notify.sentences import WARNINGS
from prewatt.reports.day_usage import day_usage
from prewatt.reports.place import LocalDay, local_day, place_of, rows
from prewatt.reports.rules import cut_rules
from prewatt.reports.today import (
    BoardUnit,
    Ending,
    Figures,
    Floor,
    HourFlow,
    House,
    Need,
    NeedKind,
    Today,
    Warned,
)
from prewatt.reports.units import UnitNow, units_now
from prewatt.vending.sums import Proof

#: *Runs out next* and the third figure look this far ahead.
SOON_HOURS = 48
ENDINGS_MAX = 8
NEEDS_MAX = 8
FRESH_MINUTES = 15
#: A paid order that is younger than this is simply under way and needs nobody.
PATIENCE = timedelta(seconds=20)


def today(*, actor: Actor, now: datetime) -> Today:
    """Everything on the Today page, in one read transaction. Raises PermissionRefused."""
    with scope(actor):
        place = place_of(actor)
        day = local_day(now, place.time_zone)
        units = units_now(property_id=place.property_id, now=now)
        money_in = _money_in(place.property_id, day)
        usage = day_usage(place.property_id, day)
        warned = _warnings([unit for unit in units if unit.account_id is not None])
        window = cut_rules(place.property_id, now)
        needs = _needs(place.property_id, units, now)
        proof, proved_at = _proof(place.property_id)
    metered = [unit for unit in units if unit.meter_id is not None]
    fresh = now - timedelta(minutes=FRESH_MINUTES)
    soon = _soon(units, now)
    figures = Figures(
        units=len(units),
        supplied=sum(unit.relay is not RelayState.OPEN for unit in units),
        vacant=sum(unit.vacant for unit in units),
        cut=sum(unit.relay is RelayState.OPEN for unit in units),
        soon=len(soon),
        soon_warned=sum(_warned(unit, warned)[0] is Warned.DELIVERED for unit in soon),
        money_in_micro=sum(each.micro for each in money_in),
        recharges=sum(each.count for each in money_in),
        energy_out_micro=sum(usage.charges.values()),
        energy_out_wh=usage.energy_wh,
    )
    return Today(
        place=place,
        now=now,
        meters=len(metered),
        meters_fresh=sum(
            unit.reading_at is not None and unit.reading_at >= fresh for unit in metered
        ),
        fresh_minutes=FRESH_MINUTES,
        cuts_from=window.opens_next(now),
        cuts_until=window.open_until(now),
        figures=figures,
        houses=_houses(units, now),
        needs=needs,
        endings=_endings(soon, warned, now),
        flow=_flow(money_in, usage.charges, day, now),
        flow_hours=day.hours,
        now_hour_tenths=int((now - day.begins_at).total_seconds() // 360),
        methods=_by_way(money_in),
        held_micro=sum(max(0, unit.available_micro) for unit in units if not unit.vacant),
        proof=proof,
        proved_at=proved_at,
    )


def _proof(property_id: int) -> tuple[Proof | None, datetime | None]:
    """The latest proof that was kept, and when it was; nothing is added up here."""
    found = rows(
        """SELECT cash_micro, ledger_micro, meters_micro, proved_at FROM books_proof
           WHERE property_id = %s ORDER BY proved_at DESC, id DESC LIMIT 1""",
        [property_id],
    )
    if not found:
        return None, None
    *sums, proved_at = found[0]
    return Proof(property_id, *sums), proved_at


def _houses(units: Sequence[UnitNow], now: datetime) -> tuple[House, ...]:
    houses = []
    for building_id, group in groupby(units, key=lambda unit: unit.building_id):
        inside = list(group)
        floors = tuple(
            Floor(
                floor,
                tuple(
                    BoardUnit(
                        unit.unit_id,
                        unit.account_id,
                        unit.code,
                        unit.state(now),
                        unit.hours_left(),
                    )
                    for unit in storey
                ),
            )
            for floor, storey in groupby(inside, key=lambda unit: unit.floor)
        )
        kinds = tuple(Counter(unit.kind for unit in inside).most_common())
        houses.append(House(building_id, inside[0].building, kinds, floors))
    return tuple(houses)


def _soon(units: Sequence[UnitNow], now: datetime) -> list[UnitNow]:
    """Supplied customers whose money ends within two days, the first to end first."""
    near = []
    for unit in units:
        hours = unit.hours_left()
        supplied = not unit.vacant and unit.relay is not RelayState.OPEN
        if supplied and hours is not None and hours < SOON_HOURS:
            near.append((hours, unit))
    return [unit for _, unit in sorted(near, key=lambda pair: (pair[0], pair[1].unit_id))]


def _warnings(units: Sequence[UnitNow]) -> dict[int, tuple[DeliveryState, datetime]]:
    """The state of the latest warning of each account whose balance became low, by account."""
    low = [unit for unit in units if unit.level_fired_at is not None]
    found = rows(
        """SELECT DISTINCT ON (m.account_id) m.account_id, m.state, coalesce(m.finished_at, m.created_at)
           FROM unnest(%s::bigint[], %s::timestamptz[]) AS low(account_id, since)
           JOIN message m ON m.account_id = low.account_id AND m.created_at >= low.since
           WHERE m.code = ANY(%s) AND NOT m.would_have
           ORDER BY m.account_id, (m.state = %s) DESC, m.created_at DESC""",
        [
            [unit.account_id for unit in low],
            [unit.level_fired_at for unit in low],
            list(WARNINGS),
            int(DeliveryState.DELIVERED),
        ],
    )
    return {account: (DeliveryState(state), at) for account, state, at in found}


_WARNED = {
    DeliveryState.DELIVERED: Warned.DELIVERED,
    DeliveryState.PENDING: Warned.PENDING,
    DeliveryState.RETRYING: Warned.PENDING,
    DeliveryState.EXHAUSTED: Warned.FAILED,
}


def _warned(
    unit: UnitNow, warned: dict[int, tuple[DeliveryState, datetime]]
) -> tuple[Warned, datetime | None]:
    if unit.account_id is None or unit.account_id not in warned:
        return Warned.NONE, None
    state, at = warned[unit.account_id]
    return _WARNED.get(state, Warned.NONE), at


def _endings(
    soon: Sequence[UnitNow],
    warned: dict[int, tuple[DeliveryState, datetime]],
    now: datetime,
) -> tuple[Ending, ...]:
    endings = []
    for unit in soon[:ENDINGS_MAX]:
        runs_out_at = unit.runs_out_at(now)
        if unit.account_id is not None and runs_out_at is not None:
            how, at = _warned(unit, warned)
            endings.append(
                Ending(
                    unit.account_id,
                    unit.name,
                    unit.state(now),
                    runs_out_at,
                    unit.available_micro,
                    how,
                    at,
                )
            )
    return tuple(endings)


@dataclass(frozen=True, slots=True)
class _Received:
    """The day's recharges of one elapsed hour and one way of paying."""

    hour: int
    way: str
    count: int
    micro: int


def _money_in(property_id: int, day: LocalDay) -> list[_Received]:
    found = rows(
        """SELECT floor(extract(epoch FROM accepted_at - %s) / 3600)::int AS hour, way, count(*),
                  sum(amount_micro)::bigint
           FROM payment WHERE property_id = %s AND accepted_at >= %s AND accepted_at < %s
           GROUP BY hour, way ORDER BY hour""",
        [day.begins_at, property_id, day.begins_at, day.ends_at],
    )
    return [_Received(*row) for row in found]


def _by_way(received: Sequence[_Received]) -> tuple[tuple[str, int], ...]:
    """The sum of each way of paying, the largest first."""
    sums: Counter[str] = Counter()
    for each in received:
        sums[each.way] += each.micro
    return tuple(sums.most_common())


def _flow(
    money_in: Sequence[_Received], energy_out: Mapping[int, int], day: LocalDay, now: datetime
) -> tuple[HourFlow, ...]:
    received: Counter[int] = Counter()
    for each in money_in:
        received[each.hour] += each.micro
    hours = range(min(day.hours, day.hour_of(now) + 1))
    return tuple(HourFlow(hour, received[hour], energy_out.get(hour, 0)) for hour in hours)


def _needs(property_id: int, units: Sequence[UnitNow], now: datetime) -> tuple[Need, ...]:
    """What needs a person, worst harm first."""
    names = {unit.account_id: unit.name for unit in units if unit.account_id is not None}
    found = [
        *_paid_not_confirmed(property_id, names, now),
        *_silent(units, now),
        *(
            Need(
                f"tamper-{unit.meter_id}",
                NeedKind.TAMPER,
                unit.tamper_since,
                unit.name,
                unit.account_id,
            )
            for unit in units
            if unit.tamper_since is not None
        ),
        *_meter_alerts(property_id, units),
        *_held_readings(property_id, names),
        *_not_delivered(property_id, names),
        *_brake(property_id),
    ]
    return tuple(found[:NEEDS_MAX])


def _paid_not_confirmed(property_id: int, names: dict[int, str], now: datetime) -> list[Need]:
    found = rows(
        """SELECT o.id, o.account_id, o.decided_at, o.attempts, p.amount_micro
           FROM supply_order o
           LEFT JOIN LATERAL (SELECT amount_micro FROM payment WHERE account_id = o.account_id
               ORDER BY paid_at DESC LIMIT 1) p ON true
           WHERE o.property_id = %s AND o.kind = %s AND o.state IN (1, 2, 3) AND o.decided_at < %s
           ORDER BY o.decided_at LIMIT %s""",
        [property_id, int(OrderKind.CONNECT), now - PATIENCE, NEEDS_MAX],
    )
    return [
        Need(
            f"order-{order}", NeedKind.PAID_NOT_CONFIRMED, at, names.get(account, ""), account,
            amount_micro=amount or 0, count=tries,
        )
        for order, account, at, tries, amount in found
    ]  # fmt: skip


def _silent(units: Sequence[UnitNow], now: datetime) -> list[Need]:
    """Silent meters, one line for each floor they share: a floor that falls silent has one cause."""
    needs = []
    silent = [unit for unit in units if unit.is_silent(now)]
    for (building_id, floor), group in groupby(
        silent, key=lambda unit: (unit.building_id, unit.floor)
    ):
        quiet = list(group)
        heard = [at for unit in quiet if (at := unit.heard_at()) is not None]
        since = min(heard, default=now)
        one = len(quiet) == 1
        needs.append(
            Need(
                f"silent-{building_id}-{floor}",
                NeedKind.SILENT,
                since,
                place=quiet[0].name if one else quiet[0].building,
                floor=None if one else floor,
                count=len(quiet),
            )
        )
    return needs[:3]


def _meter_alerts(property_id: int, units: Sequence[UnitNow]) -> list[Need]:
    """What meters did that nobody asked of them, worst harm first; a relay that leaves people in the dark
    before one that gives them light. A cover that is closed again still has to be looked at.
    """
    found = rows(
        """SELECT substr(subject, 7)::bigint, opened_at,
                  CASE WHEN code = 'meter.foreign_answer' THEN %s
                       WHEN code = 'meter.tamper' THEN %s
                       WHEN code = 'supply.usage_while_open' THEN %s
                       WHEN detail ->> 'wanted' = 'closed' THEN %s ELSE %s END,
                  coalesce((detail ->> 'used_wh')::bigint, 0)
           FROM alert WHERE property_id = %s AND closed_at IS NULL
             AND code IN ('supply.relay_departed', 'meter.foreign_answer', 'meter.tamper',
                          'supply.usage_while_open')""",
        [
            NeedKind.FOREIGN_ANSWER.value, NeedKind.TAMPER.value, NeedKind.USED_WHILE_OPEN.value,
            NeedKind.RELAY_OPEN.value, NeedKind.RELAY_CLOSED.value, property_id,
        ],
    )  # fmt: skip
    by_meter = {unit.meter_id: unit for unit in units}
    kinds = list(NeedKind)
    return [
        Need(f"{kind}-{meter}", NeedKind(kind), at, unit.name, unit.account_id, wh=wh)
        for meter, at, kind, wh in sorted(
            found, key=lambda row: (kinds.index(NeedKind(row[2])), row[1])
        )
        if (unit := by_meter.get(meter)) is not None
        and not (kind == NeedKind.TAMPER and unit.tamper_since is not None)
    ]


def _held_readings(property_id: int, names: dict[int, str]) -> list[Need]:
    found = rows(
        """SELECT account_id, min(read_at), count(*) FROM vee_case
           WHERE property_id = %s AND state = 'held' GROUP BY account_id ORDER BY 2 LIMIT %s""",
        [property_id, NEEDS_MAX],
    )
    return [
        Need(
            f"held-{account}",
            NeedKind.HELD_READING,
            at,
            names.get(account, ""),
            account,
            count=count,
        )
        for account, at, count in found
    ]


def _not_delivered(property_id: int, names: dict[int, str]) -> list[Need]:
    found = rows(
        """SELECT DISTINCT ON (m.account_id) m.account_id, m.created_at, t.tries
           FROM message m
           JOIN supply_state s ON s.account_id = m.account_id AND s.fired_mask <> 0
               AND m.created_at >= s.level_fired_at
           CROSS JOIN LATERAL (SELECT count(*) AS tries FROM message_attempt a WHERE a.message_id = m.id) t
           WHERE m.property_id = %s AND m.state IN (%s, %s) AND m.code = ANY(%s)
             AND NOT EXISTS (SELECT FROM message d WHERE d.account_id = m.account_id
                 AND d.code = ANY(%s) AND d.created_at >= s.level_fired_at AND d.state = %s)
           ORDER BY m.account_id, m.created_at DESC LIMIT %s""",
        [
            property_id, int(DeliveryState.RETRYING), int(DeliveryState.EXHAUSTED),
            list(WARNINGS), list(WARNINGS), int(DeliveryState.DELIVERED), NEEDS_MAX,
        ],
    )  # fmt: skip
    return [
        Need(
            f"warning-{account}", NeedKind.WARNING_NOT_DELIVERED, at, names.get(account, ""), account,
            count=tries,
        )
        for account, at, tries in found
    ]  # fmt: skip


def _brake(property_id: int) -> list[Need]:
    found = rows(
        "SELECT brake_since FROM supply_policy WHERE property_id = %s AND brake_since IS NOT NULL",
        [property_id],
    )
    return [Need("brake", NeedKind.BRAKE, since) for (since,) in found]
