"""Reads one account: its days and hours of usage, its lines, and everything that was decided."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from prewatt.access.scope import Actor, scope
from prewatt.billing.queries import HOLDS
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.core.rating import Component
from prewatt.core.tariff import Tariff, parse_tariff
from prewatt.core.vocabulary import DeliveryState, OrderState, Outcome, WalletEnd
from prewatt.instructions.releases import unanswered
from prewatt.reports.account import (
    CHARGES,
    AccountPage,
    Balance,
    BalancePoint,
    Entry,
    EntryKind,
    GateLine,
    Holder,
    InMeter,
    LastReading,
    Outlook,
    PriceBand,
    UsageDay,
)
from prewatt.reports.debts import open_debts_of
from prewatt.reports.ending import ending_of
from prewatt.reports.lists_query import actor_names, orders_of
from prewatt.reports.place import NoSuchThing, local_day, place_of, rows
from prewatt.reports.rules import CutRules, cut_rules, gates_now, standing_of
from prewatt.reports.tamper import open_cases_of_account
from prewatt.reports.today import Place
from prewatt.reports.units import UnitNow, ends_at, units_of_account

#: The chart looks back over this many days besides today.
DAYS_BACK = 13
ENTRIES = 25
ENTRIES_MAX = 400
ORDERS_MAX = 8
_ESTIMATED = 2


@dataclass(frozen=True, slots=True)
class _Hour:
    """Usage of one local hour in one band of one tariff version."""

    begins_at: datetime
    day: date
    version_id: int
    band: int
    wh: int
    charge_micro: int
    estimated: bool


@dataclass(frozen=True, slots=True)
class _Plans:
    """The tariff versions that an account's intervals name, and the one in force."""

    tariffs: Mapping[int, Tariff]
    name: str
    number: int
    current: Tariff | None

    def code(self, version_id: int, band: int) -> str:
        """The band's code, or its position when the version is unknown."""
        tariff = self.tariffs.get(version_id)
        return tariff.bands[band].name if tariff and band < len(tariff.bands) else str(band)


def account_page(
    *, actor: Actor, account_id: int, now: datetime, entries: int = ENTRIES
) -> AccountPage:
    """Everything on the account page, in one read transaction.

    Raises NoSuchThing for an account that does not exist or stands at another property, and
    PermissionRefused.
    """
    with scope(actor):
        place = place_of(actor)
        unit = _unit(place, account_id, now)
        plans = _plans(account_id, now)
        holder = _holder(unit, plans, account_id)
        # A past account is drawn up to its end, whenever that was.
        until = now if holder.closed_at is None else min(now, holder.closed_at)
        first = local_day(until, place.time_zone, back=DAYS_BACK)
        hours = _hours(account_id, place, first.begins_at, until)
        money = _booked_since(account_id, first.begins_at)
        cut = cut_rules(place.property_id, now)
        standing = standing_of(account_id)
        gates: tuple[GateLine, ...] = ()
        if standing is not None and not unit.vacant and holder.closed_at is None:
            gates = gates_now(standing, cut, relay=unit.relay, now=now)
        found, more = _entries(account_id, place, plans, max(1, min(entries, ENTRIES_MAX)))
        orders = orders_of(account_id=account_id, limit=ORDERS_MAX)
        balance = _balance(account_id, unit)
        last_line = _last_line(account_id)
        in_meter = _in_meter(account_id, now)
        debts = open_debts_of(place, account_id)
        cases = open_cases_of_account(property_id=place.property_id, account_id=account_id)
        ending = (
            None
            if holder.closed_at is None
            else ending_of(account_id, holder.closed_at, unit.available_micro)
        )
    days = _days(hours, money, plans, place, unit.available_micro, until)
    return AccountPage(
        place=place,
        now=now,
        holder=holder,
        state=unit.state,
        relay=unit.relay,
        balance=balance,
        outlook=_outlook(unit, days, cut, gates, now),
        gates=gates,
        cut_hours=cut.hours(),
        bands=_bands(plans),
        days=days,
        points=_points(hours, money, unit.available_micro, until),
        entries=found,
        orders=orders,
        reading=None
        if unit.reading_at is None or unit.register_wh is None
        else LastReading(unit.reading_at, unit.register_wh),
        more_entries=more,
        last_line=last_line,
        debts=debts,
        in_meter=in_meter,
        ending=ending,
        cases=cases,
    )


def _unit(place: Place, account_id: int, now: datetime) -> UnitNow:
    found = units_of_account(
        property_id=place.property_id, now=now, account_id=account_id, former=True
    )
    if not found:
        raise NoSuchThing(f"no account {account_id} in scope")
    return found[0]


def _holder(unit: UnitNow, plans: _Plans, account_id: int) -> Holder:
    since = rows(
        "SELECT lower(period) FROM tenancy WHERE account_id = %s ORDER BY lower(period) DESC LIMIT 1",
        [account_id],
    )
    closed = rows("SELECT closed_at FROM account WHERE id = %s", [account_id])
    return Holder(
        account_id=account_id,
        number=unit.number,
        unit=unit.name,
        unit_kind=unit.kind,
        building=unit.building,
        floor=unit.floor,
        customer=unit.customer,
        since=since[0][0] if since else None,
        meters=(unit.serial,) if unit.serial else (),
        tariff=plans.name,
        tariff_version=plans.number,
        unit_id=unit.unit_id,
        closed_at=closed[0][0] if closed else None,
    )


def _plans(account_id: int, now: datetime) -> _Plans:
    """Every version of every tariff the account was ever on; there are a handful."""
    found = rows(
        f"""SELECT v.id, v.number, t.name, v.content, v.valid_from <= %s AND t.id = (
                      SELECT s.tariff_id FROM tariff_assignment s
                      WHERE s.account_id = %s AND s.valid_from <= %s AND {HOLDS}
                      ORDER BY s.valid_from DESC LIMIT 1)
           FROM tariff_version v JOIN tariff t ON t.id = v.tariff_id
           WHERE t.id IN (SELECT tariff_id FROM tariff_assignment WHERE account_id = %s)
           ORDER BY v.valid_from""",  # noqa: S608 - our own constants
        [now, account_id, now, account_id],
    )
    tariffs = {version: parse_tariff(_json(content)) for version, _, _, content, _ in found}
    for version, number, name, _, in_force in reversed(found):
        if in_force:
            return _Plans(tariffs, name, number, tariffs[version])
    return _Plans(tariffs, "", 0, None)


def _json(value: Any) -> Mapping[str, object]:
    found: Mapping[str, object] = json.loads(value) if isinstance(value, str) else value
    return found


def _hours(account_id: int, place: Place, since: datetime, now: datetime) -> list[_Hour]:
    found = rows(
        """SELECT date_trunc('hour', i.from_at) AS hour,
                  (i.from_at AT TIME ZONE %(zone)s)::date AS day, i.tariff_version_id, i.band,
                  sum(i.energy_wh)::bigint,
                  sum(i.charge_energy + i.charge_standing + i.charge_tax + i.charge_fee
                      + i.charge_demand + i.charge_subsidy)::bigint,
                  bool_or(i.quality = %(estimated)s)
           FROM interval i
           WHERE i.account_id = %(account)s AND i.start_at >= %(since)s AND i.start_at < %(now)s
           GROUP BY hour, day, i.tariff_version_id, i.band ORDER BY hour""",
        {
            "zone": place.time_zone,
            "account": account_id,
            "since": since,
            "now": now,
            "estimated": _ESTIMATED,
        },
    )
    return [_Hour(*row) for row in found]


@dataclass(frozen=True, slots=True)
class _Booked:
    """A transfer that is not made of intervals; ``charge``: for a day, and not a movement of money."""

    at: datetime
    amount_micro: int
    charge: bool


def _booked_since(account_id: int, since: datetime) -> list[_Booked]:
    """What moved the wallet besides the intervals, which have usage and its corrections in them."""
    found = rows(
        """SELECT t.booked_at, t.amount, t.kind = ANY(%(charges)s) FROM transfer t
           WHERE t.account_id = %(account)s AND t.booked_at >= %(since)s AND t.kind <> %(usage)s
             AND NOT (t.kind = %(correction)s AND EXISTS (
                 SELECT FROM posting p WHERE p.account_id = t.account_id
                     AND p.event_id = t.event_id AND p.cause = t.reason))
           ORDER BY t.seq""",
        {
            "account": account_id,
            "since": since,
            "usage": int(TransferKind.USAGE),
            "correction": int(TransferKind.CORRECTION),
            "charges": [int(TransferKind.DAILY), int(TransferKind.CORRECTION)],
        },
    )
    return [_Booked(*row) for row in found]


def _points(
    hours: Sequence[_Hour],
    money: Sequence[_Booked],
    available: int,
    now: datetime,
) -> tuple[BalancePoint, ...]:
    """The available balance hour by hour, walked back from what it is now."""
    steps: list[tuple[datetime, int]] = [
        (min(hour.begins_at + timedelta(hours=1), now), -hour.charge_micro) for hour in hours
    ]
    steps += [(each.at, each.amount_micro) for each in money]
    steps.sort(key=lambda step: step[0], reverse=True)
    balance = available
    points = [BalancePoint(now, balance)]
    for at, amount in steps:
        points.append(BalancePoint(at, balance))
        balance -= amount
        if amount > 0:
            # A recharge rises in one step, so the point before it stands at the same instant.
            points.append(BalancePoint(at, balance))
    points.reverse()
    return tuple(points)


def _days(
    hours: Iterable[_Hour],
    money: Sequence[_Booked],
    plans: _Plans,
    place: Place,
    available: int,
    now: datetime,
) -> tuple[UsageDay, ...]:
    zone = ZoneInfo(place.time_zone)
    today = now.astimezone(zone).date()
    wh: defaultdict[date, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    charge: defaultdict[date, int] = defaultdict(int)
    came: defaultdict[date, int] = defaultdict(int)
    estimated: set[date] = set()
    for hour in hours:
        wh[hour.day][plans.code(hour.version_id, hour.band)] += hour.wh
        charge[hour.day] += hour.charge_micro
        if hour.estimated:
            estimated.add(hour.day)
    for each in money:
        day = each.at.astimezone(zone).date()
        if each.charge:
            charge[day] -= each.amount_micro
        else:
            came[day] += each.amount_micro
    days: list[UsageDay] = []
    balance = available
    seen = sorted({*wh, *came, *charge, today}, reverse=True)
    for number in range((today - min(seen)).days + 1):
        day = today - timedelta(days=number)
        days.append(
            UsageDay(
                day, dict(wh[day]), charge[day], came[day], balance, day in estimated, day != today,
            )
        )  # fmt: skip
        balance += charge[day] - came[day]
    days.reverse()
    return tuple(days)


def _bands(plans: _Plans) -> tuple[PriceBand, ...]:
    if plans.current is None:
        return ()
    ranked = sorted(plans.current.bands, key=lambda band: band.price_nano_per_kwh)
    many = len(ranked)
    # One price is the middle step; two are the middle and the strong one.
    first = 1 if many >= 3 else 2
    return tuple(
        PriceBand(band.name, band.label, band.price_nano_per_kwh, min(3, first + at))
        for at, band in enumerate(ranked)
    )


def _balance(account_id: int, unit: UnitNow) -> Balance:
    used_wh, since = rows(
        """SELECT coalesce(sum(i.energy_wh), 0)::bigint, min(i.from_at)
           FROM account_state s LEFT JOIN interval i ON i.account_id = s.account_id
               AND i.interval_no > s.posted_interval_no
           WHERE s.account_id = %s""",
        [account_id],
    )[0]
    return Balance(
        posted_micro=unit.posted_micro,
        used_micro=unit.posted_micro - unit.available_micro,
        used_wh=used_wh,
        used_since=since,
        emergency_limit_micro=unit.emergency_micro,
        emergency_used_micro=min(unit.emergency_micro, max(0, -unit.available_micro)),
        as_of=unit.reading_at,
    )


def _in_meter(account_id: int, now: datetime) -> InMeter | None:
    """What the account's meter holds of its credit itself; None where the server alone decides."""
    found = rows(
        """SELECT w.meter_id, s.balance_micro, w.credit_micro - w.told_micro, s.said_at, coalesce((
               SELECT c.differs FROM meter_balance_check c
               WHERE c.meter_id = w.meter_id AND c.account_id = w.account_id
               ORDER BY c.checked_at DESC LIMIT 1), false), w.because, w.release_at
           FROM meter_wallet w LEFT JOIN instruction_state s ON s.meter_id = w.meter_id
           WHERE w.account_id = %s AND w.state < 3 ORDER BY w.state, w.id DESC LIMIT 1""",
        [account_id],
    )
    if not found:
        return None
    meter_id, balance, on_way, said_at, differs, because, release_at = found[0]
    return InMeter(
        meter_id, balance, on_way, said_at, differs,
        "" if because is None else WalletEnd(because).word, release_at,
        release_at is not None and any(each.meter_id == meter_id for each in unanswered(now=now)),
    )  # fmt: skip


def _last_line(account_id: int) -> int:
    found = rows("SELECT transfer_seq FROM account_state WHERE account_id = %s", [account_id])
    return int(found[0][0]) if found else 0


def _outlook(
    unit: UnitNow,
    days: Sequence[UsageDay],
    cut: CutRules,
    gates: Sequence[GateLine],
    now: datetime,
) -> Outlook:
    pace = 0 if unit.vacant else unit.spend_per_day_micro
    left = max(0, unit.available_micro)
    runs_out = ends_at(now, left, pace)
    ends = ends_at(now, max(0, unit.available_micro + unit.emergency_micro), pace)
    early, late = _range(days, left, runs_out, now)
    earliest: datetime | None = None
    if gates and unit.protection in ("", "none"):
        left_micro = unit.available_micro + unit.emergency_micro
        earliest = cut.earliest_cut(now, left_micro, pace, unit.level_fired_at)
    return Outlook(
        runs_out_at=runs_out,
        runs_out_early_at=early,
        runs_out_late_at=late,
        emergency_ends_at=ends if unit.emergency_micro else None,
        earliest_cut_at=earliest,
        hours_left=unit.hours_left,
    )


def _range(
    days: Sequence[UsageDay], left: int, runs_out: datetime | None, now: datetime
) -> tuple[datetime | None, datetime | None]:
    """The forecast's bounds: the dearest and cheapest quarter of the last two weeks' days."""
    spent = sorted(day.charge_micro for day in days if day.complete and day.charge_micro > 0)
    if runs_out is None or len(spent) < 4 or left == 0:
        return None, None
    return (
        ends_at(now, left, spent[len(spent) * 3 // 4]),
        ends_at(now, left, spent[len(spent) // 4]),
    )


_KINDS = {
    TransferKind.OPENING: EntryKind.OPENING,
    TransferKind.RECHARGE: EntryKind.RECHARGE,
    TransferKind.USAGE: EntryKind.USAGE,
    TransferKind.REFUND: EntryKind.REFUND,
    TransferKind.ADJUSTMENT: EntryKind.ADJUSTMENT,
    TransferKind.WRITE_OFF: EntryKind.WRITE_OFF,
    TransferKind.REVERSAL: EntryKind.REVERSAL,
    TransferKind.MOVE: EntryKind.MOVE,
    TransferKind.CORRECTION: EntryKind.CORRECTION,
    TransferKind.DAILY: EntryKind.DAILY,
    TransferKind.DEBT_RECOVERY: EntryKind.DEBT_RECOVERY,
    TransferKind.DEPOSIT: EntryKind.DEPOSIT,
    TransferKind.DEBT: EntryKind.DEBT,
}


def _entries(
    account_id: int, place: Place, plans: _Plans, limit: int
) -> tuple[tuple[Entry, ...], bool]:
    """The latest lines of all kinds together, newest first, and whether there are more.

    A charge stands where its service was, and a correction beside what it corrects, however late it was
    booked; all else stands where it happened.
    """
    money = _transfers(account_id, place, plans, limit + 1)
    found = [
        *money,
        *_order_entries(account_id, limit + 1),
        *_messages(account_id, limit + 1),
        *_decisions(account_id, limit + 1),
        *_held(account_id, limit + 1),
    ]
    days = [entry.service[0] for entry in money if entry.service]
    since = min(days) if days and len(money) > limit else None
    corrections = _transfers(
        account_id, place, plans, limit + 1, corrections_since=since or date.min
    )
    placed = [(_place_of(each, money, place), each) for each in corrections]
    placed += [((each.at, each.lines or (0, 0), (0, 0)), each) for each in found]
    placed.sort(key=lambda each: each[0], reverse=True)
    return tuple(entry for _, entry in placed[:limit]), len(placed) > limit


#: Where an entry stands: an instant, its lines, and for a correction beside another its own lines.
_Standing = tuple[datetime, tuple[int, int], tuple[int, int]]


def _place_of(correction: Entry, money: Sequence[Entry], place: Place) -> _Standing:
    """A correction stands right after the charge of its service day that it corrects."""
    own = correction.lines or (0, 0)
    wanted = EntryKind.USAGE if correction.wh or _is_energy(correction) else EntryKind.DAILY
    charges = [
        each
        for each in money
        if each.service == correction.service and each.kind in CHARGES and each.lines
    ]
    if charges:
        beside = max(charges, key=lambda each: (each.kind is wanted, each.at, each.lines))
        return beside.at, beside.lines or own, own
    assert correction.service is not None, "a correction has a service day"
    day_ends = datetime.combine(correction.service[1], time(), ZoneInfo(place.time_zone))
    return min(correction.at, day_ends), own, (0, 0)


def _is_energy(entry: Entry) -> bool:
    return any(component is Component.ENERGY for component, _ in entry.parts)


def _transfers(
    account_id: int, place: Place, plans: _Plans, limit: int, *,
    corrections_since: date | None = None,
) -> list[Entry]:  # fmt: skip
    """Transfers as people see them: one entry per event and service day, the latest booked first.

    None but corrections of service days from a day on where one is given, else all but those.
    """
    found = rows(
        """WITH latest AS (
               SELECT *, (service_from AT TIME ZONE %(zone)s)::date AS day
               FROM transfer
               WHERE account_id = %(account)s AND (kind = %(correction)s) = %(corrections)s
                 AND (NOT %(corrections)s
                      OR (service_from AT TIME ZONE %(zone)s)::date >= %(since)s::date)
               ORDER BY seq DESC LIMIT %(limit)s * 4),
           lines AS (
               SELECT event_id, kind, day, min(seq) AS first, max(seq) AS last,
                      sum(amount)::bigint AS amount,
                      (array_agg(posted_after ORDER BY seq DESC))[1] AS balance,
                      CASE kind WHEN %(usage)s THEN max(service_to)
                                WHEN %(daily)s THEN least(max(service_from), max(booked_at))
                                ELSE max(booked_at) END AS at,
                      max(booked_at) AS booked_at, max(reason) AS reason
               FROM latest GROUP BY event_id, kind, day ORDER BY last DESC LIMIT %(limit)s)
           SELECT l.event_id, l.kind, l.day, l.first, l.last, l.amount, l.balance, l.at, l.reason,
                  (SELECT jsonb_object_agg(b.band, b.wh) FROM (
                       SELECT band, sum(energy_wh)::bigint AS wh FROM latest t
                       WHERE (t.event_id, t.kind, t.day) = (l.event_id, l.kind, l.day)
                       GROUP BY band HAVING sum(energy_wh) <> 0) b),
                  (SELECT jsonb_object_agg(c.component, c.amount) FROM (
                       SELECT component, sum(amount)::bigint AS amount FROM latest t
                       WHERE (t.event_id, t.kind, t.day) = (l.event_id, l.kind, l.day)
                       GROUP BY component) c),
                  coalesce(p.way, ''), coalesce(d.series || '-' || d.number, ''),
                  coalesce(p.taken_by, ''),
                  (SELECT r.corrects_event_id FROM transfer r
                   WHERE r.account_id = %(account)s AND r.event_id = l.event_id
                     AND l.kind IN (%(reversal)s, %(move)s)
                     AND r.kind = l.kind AND r.counter_account <> %(debts)s LIMIT 1),
                  l.booked_at
           FROM lines l LEFT JOIN payment p ON p.event_id = l.event_id
           LEFT JOIN document d ON d.event_id = l.event_id AND d.kind = 'receipt'
           ORDER BY l.last DESC""",
        {
            "account": account_id,
            "zone": place.time_zone,
            "limit": limit,
            "usage": int(TransferKind.USAGE),
            "daily": int(TransferKind.DAILY),
            "correction": int(TransferKind.CORRECTION),
            "corrections": corrections_since is not None,
            "since": corrections_since,
            "reversal": int(TransferKind.REVERSAL),
            "move": int(TransferKind.MOVE),
            "debts": int(CounterAccount.DEBTS),
        },
    )
    names = actor_names(row[13] for row in found)
    return [_transfer(row, plans, names) for row in found]


def _transfer(row: tuple[Any, ...], plans: _Plans, names: Mapping[str, str]) -> Entry:
    (event, kind, day, first, last, amount, balance, at, reason, energy, parts, way, receipt,
     taken_by, corrects, booked_at) = row  # fmt: skip
    entry_kind = _KINDS[TransferKind(kind)]
    bands = _json(energy) if energy is not None else {}
    charge = entry_kind in CHARGES
    return Entry(
        key=f"t{event}-{kind}-{day:%y%m%d}",
        kind=entry_kind,
        at=at,
        amount_micro=amount,
        balance_micro=balance,
        lines=(first, last),
        service=(day, day + timedelta(days=1)) if charge else None,
        wh=_named(bands, plans) if charge else {},
        event_id=event,
        parts=_components(_json(parts)),
        method=way,
        reference=receipt,
        by=names.get(taken_by, ""),
        note="" if charge else str(reason),
        corrects_id=corrects,
        booked_at=booked_at if charge else None,
    )


def _components(amounts: Mapping[str, Any]) -> tuple[tuple[Component, int], ...]:
    return tuple(sorted((Component(int(each)), int(amounts[each])) for each in amounts))


def _named(bands: Mapping[str, Any], plans: _Plans) -> dict[str, int]:
    """Energy by band code, cheapest band first; transfers keep only the band's position."""
    current = plans.current
    if current is None:
        return {band: int(wh) for band, wh in bands.items()}
    known = {band: int(wh) for band, wh in bands.items() if int(band) < len(current.bands)}
    ordered = sorted(known, key=lambda band: current.bands[int(band)].price_nano_per_kwh)
    return {current.bands[int(band)].name: known[band] for band in ordered}


def _order_entries(account_id: int, limit: int) -> list[Entry]:
    return [
        Entry(
            key=f"o{order.order_id}",
            kind=EntryKind.ORDER,
            at=order.decided_at,
            order=order.state,
            order_kind=order.kind,
            reason=order.reason,
            confirmed_at=order.verified_at,
            would_have=order.state is OrderState.WOULD_HAVE,
        )
        for order in orders_of(account_id=account_id, limit=limit)
    ]


def _messages(account_id: int, limit: int) -> list[Entry]:
    found = rows(
        """SELECT m.id, m.created_at, m.code, m.state, m.detail, a.channel
           FROM message m LEFT JOIN LATERAL (SELECT channel FROM message_attempt
               WHERE message_id = m.id ORDER BY tried_at DESC LIMIT 1) a ON true
           WHERE m.account_id = %s ORDER BY m.created_at DESC LIMIT %s""",
        [account_id, limit],
    )
    return [
        Entry(
            key=f"m{message}",
            kind=EntryKind.MESSAGE,
            at=at,
            message=code,
            delivery=DeliveryState(state),
            channel=channel or "",
            would_have=DeliveryState(state) is DeliveryState.WOULD_HAVE,
        )
        for message, at, code, state, _, channel in found
    ]


def _decisions(account_id: int, limit: int) -> list[Entry]:
    """Decisions that changed nothing outside: holds and refusals to connect, with their reason."""
    found = rows(
        """SELECT id, decided_at, outcome, reason, would_have FROM supply_decision
           WHERE account_id = %s AND outcome IN (%s, %s) ORDER BY decided_at DESC LIMIT %s""",
        [account_id, int(Outcome.HOLD), int(Outcome.STAY_CUT), limit],
    )
    return [
        Entry(
            key=f"d{decision}",
            kind=EntryKind.DECISION,
            at=at,
            outcome=Outcome(outcome),
            reason=str(reason),
            would_have=would_have,
        )
        for decision, at, outcome, reason, would_have in found
    ]


def _held(account_id: int, limit: int) -> list[Entry]:
    found = rows(
        """SELECT case_id, read_at, reason FROM vee_case
           WHERE account_id = %s AND state = 'held' ORDER BY read_at DESC LIMIT %s""",
        [account_id, limit],
    )
    return [
        Entry(key=f"v{case}", kind=EntryKind.HELD, at=at, note=str(note))
        for case, at, note in found
    ]
