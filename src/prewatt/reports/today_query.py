"""Reads Today with a handful of set-based statements: the board, then the day's flows and what needs a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from prewatt.access.scope import Actor, scope
from prewatt.core.vocabulary import DeliveryState, OrderKind
from prewatt.notify.sentences import WARNINGS
from prewatt.reports.board import FRESH_MINUTES, Board, read_board
from prewatt.reports.day_usage import DayUsage, day_usage
from prewatt.reports.place import LocalDay, local_day, place_of, rows
from prewatt.reports.rules import cut_rules
from prewatt.reports.takings import takings
from prewatt.reports.today import Ending, Figures, HourFlow, Need, NeedKind, Today, Warned
from prewatt.reports.units import UnitNow, units_by_id
from prewatt.vending.sums import Proof

NEEDS_MAX: Final = 8
#: A paid order that is younger than this is simply under way and needs nobody.
PATIENCE: Final = timedelta(seconds=20)
#: The usage of so many accounts that were not looked at today is added up while somebody waits.
ADDED_AT_ONCE: Final = 1_000


def today(
    *,
    actor: Actor,
    now: datetime,
    building: int | None = None,
    after: int | None = None,
    add_up: bool = False,
) -> Today:
    """Everything on the Today page, in one read transaction. Raises PermissionRefused.

    Of a large property one building's windows are on the board: ``building``, or where it is loudest;
    those after the unit ``after``. With ``add_up`` the day's usage is added up however long that takes.
    """
    with scope(actor):
        place = place_of(actor)
        day = local_day(now, place.time_zone)
        counted = read_board(place.property_id, now, building=building, after=after)
        money_in = _money_in(place.property_id, day)
        took = takings(
            property_id=place.property_id, since=day.begins_at, until=day.ends_at,
            received_micro=sum(each.micro for each in money_in),
        )  # fmt: skip
        usage = day_usage(place.property_id, day, most=None if add_up else ADDED_AT_ONCE)
        window = cut_rules(place.property_id, now)
        needs = _needs(place.property_id, counted, now)
        units = _named(place.property_id, now, counted, needs)
        warned = _warnings([units[unit_id] for unit_id in counted.endings])
        proof, proved_at = _proof(place.property_id)
    known = usage or DayUsage(day.begins_at)
    figures = Figures(
        units=counted.units,
        supplied=counted.units - counted.cut,
        vacant=counted.vacant,
        cut=counted.cut,
        soon=counted.soon,
        soon_warned=counted.soon_warned,
        takings=took,
        recharges=sum(each.count for each in money_in),
        energy_out_micro=sum(known.charges.values()),
        energy_out_wh=known.energy_wh,
    )
    return Today(
        place=place,
        now=now,
        meters=counted.meters,
        meters_fresh=counted.meters_fresh,
        fresh_minutes=FRESH_MINUTES,
        cuts_from=window.opens_next(now),
        cuts_until=window.open_until(now),
        figures=figures,
        houses=counted.houses,
        whole=counted.whole,
        needs=tuple(_with_name(need, units) for need in needs),
        endings=_endings([units[unit_id] for unit_id in counted.endings], warned, now),
        flow=_flow(money_in, known.charges, day, now),
        flow_hours=day.hours,
        flow_known=usage is not None,
        now_hour_tenths=int((now - day.begins_at).total_seconds() // 360),
        methods=_by_way(money_in),
        held_micro=counted.held_micro,
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


def _named(
    property_id: int, now: datetime, counted: Board, needs: Sequence[Need]
) -> dict[int, UnitNow]:
    """The few units that the page calls by name, by their ids."""
    wanted = {*counted.endings, *(need.unit_id for need in needs if need.unit_id is not None)}
    found = units_by_id(property_id=property_id, now=now, unit_ids=wanted)
    return {unit.unit_id: unit for unit in found}


def _with_name(need: Need, units: Mapping[int, UnitNow]) -> Need:
    unit = None if need.unit_id is None else units.get(need.unit_id)
    if unit is None:
        return need
    if need.kind is NeedKind.SILENT:
        return replace(need, place=unit.name)
    return replace(need, unit=unit.name, account_id=need.account_id or unit.account_id)


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


def _endings(
    soon: Sequence[UnitNow],
    warned: Mapping[int, tuple[DeliveryState, datetime]],
    now: datetime,
) -> tuple[Ending, ...]:
    endings = []
    for unit in soon:
        runs_out_at = unit.runs_out_at(now)
        if unit.account_id is not None and runs_out_at is not None:
            state, at = warned.get(unit.account_id, (None, None))
            how = Warned.NONE if state is None else _WARNED.get(state, Warned.NONE)
            endings.append(
                Ending(
                    unit.account_id,
                    unit.name,
                    unit.state,
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


def _needs(property_id: int, counted: Board, now: datetime) -> list[Need]:
    """What needs a person, worst harm first; units by their ids, not yet by name."""
    found = [
        *_paid_not_confirmed(property_id, now),
        *counted.silent,
        *counted.tampered,
        *_meter_alerts(property_id, now),
        *_held_readings(property_id),
        *_not_delivered(property_id),
        *_brake(property_id),
    ]
    shown = found[:NEEDS_MAX]
    return _with_units(property_id, shown, now)


def _with_units(property_id: int, needs: Sequence[Need], now: datetime) -> list[Need]:
    """The needs of accounts with the unit that each of these pays for now."""
    accounts = [need.account_id for need in needs if need.unit_id is None]
    found = rows(
        """SELECT DISTINCT ON (account_id) account_id, unit_id FROM (
               SELECT account_id, unit_id FROM tenancy
               WHERE account_id = ANY(%(accounts)s) AND period @> %(now)s
                 AND property_id = %(property)s
               UNION ALL
               SELECT id, unit_id FROM account v
               WHERE id = ANY(%(accounts)s) AND kind = 'vacancy' AND property_id = %(property)s
                 AND NOT EXISTS (SELECT FROM tenancy t
                                 WHERE t.unit_id = v.unit_id AND t.period @> %(now)s)
           ) AS paying ORDER BY account_id, unit_id""",
        {"accounts": accounts, "now": now, "property": property_id},
    )
    units = dict(found)
    return [
        need if need.unit_id is not None else replace(need, unit_id=units.get(need.account_id))
        for need in needs
    ]


def _paid_not_confirmed(property_id: int, now: datetime) -> list[Need]:
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
            f"order-{order}", NeedKind.PAID_NOT_CONFIRMED, at, account_id=account,
            amount_micro=amount or 0, count=tries,
        )
        for order, account, at, tries, amount in found
    ]  # fmt: skip


#: What a meter may have done that nobody asked of it, in the order of harm.
_BY_METERS: Final = (
    NeedKind.TAMPER,
    NeedKind.USED_WHILE_OPEN,
    NeedKind.RELAY_OPEN,
    NeedKind.RELAY_CLOSED,
    NeedKind.FOREIGN_ANSWER,
)


def _meter_alerts(property_id: int, now: datetime) -> list[Need]:
    """What meters did that nobody asked of them, worst harm first; a relay that leaves people in the dark
    before one that gives them light. A cover that is closed again still has to be looked at.
    """
    found = rows(
        """SELECT DISTINCT ON (o.harm, o.opened_at, o.meter_id)
                  o.meter_id, o.opened_at, o.harm, o.used_wh, e.unit_id
           FROM (SELECT substr(subject, 7)::bigint AS meter_id, opened_at,
                        coalesce((detail ->> 'used_wh')::bigint, 0) AS used_wh,
                        CASE WHEN code = 'meter.tamper' THEN 0
                             WHEN code = 'supply.usage_while_open' THEN 1
                             WHEN code = 'meter.foreign_answer' THEN 4
                             WHEN detail ->> 'wanted' = 'closed' THEN 2 ELSE 3 END AS harm
                 FROM alert WHERE property_id = %s AND closed_at IS NULL
                   AND code IN ('supply.relay_departed', 'meter.foreign_answer', 'meter.tamper',
                                'supply.usage_while_open')) o
           JOIN installation i ON i.meter_id = o.meter_id AND i.period @> %s
           JOIN metering_point e ON e.id = i.metering_point_id AND e.unit_id IS NOT NULL
           LEFT JOIN meter_link l ON l.meter_id = o.meter_id
           WHERE o.harm > 0 OR l.tamper_since IS NULL
           ORDER BY o.harm, o.opened_at, o.meter_id LIMIT %s""",
        [property_id, now, NEEDS_MAX],
    )
    return [
        Need(f"{_BY_METERS[harm].value}-{meter}", _BY_METERS[harm], at, unit_id=unit_id, wh=used_wh)
        for meter, at, harm, used_wh, unit_id in found
    ]


def _held_readings(property_id: int) -> list[Need]:
    found = rows(
        """SELECT account_id, min(read_at), count(*) FROM vee_case
           WHERE property_id = %s AND state = 'held' GROUP BY account_id ORDER BY 2 LIMIT %s""",
        [property_id, NEEDS_MAX],
    )
    return [
        Need(f"held-{account}", NeedKind.HELD_READING, at, account_id=account, count=count)
        for account, at, count in found
    ]


def _not_delivered(property_id: int) -> list[Need]:
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
            f"warning-{account}",
            NeedKind.WARNING_NOT_DELIVERED,
            at,
            account_id=account,
            count=tries,
        )
        for account, at, tries in found
    ]


def _brake(property_id: int) -> list[Need]:
    found = rows(
        "SELECT brake_since FROM supply_policy WHERE property_id = %s AND brake_since IS NOT NULL",
        [property_id],
    )
    return [Need("brake", NeedKind.BRAKE, since) for (since,) in found]
