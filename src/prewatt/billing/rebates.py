"""Rebates of announced peaks: what customers used less than usual, paid once its readings are there.

An event is settled when the wait that a tariff states is over, and looked at again at stated times
after it (``LOOKS``), so that late readings, changed terms or a wrong tariff find their way into it.
Each look works out the rebate from the account's own intervals (``core.baseline``) and books the
difference to what was paid: the first as an amount by days of component REBATE under the code
``event-<id>``, every other as a correction that names the transfer before it. A look that finds
nothing new writes nothing.

A rebate is paid as written. It is no price of energy, so no tax is on it and none is taken out of it,
and it counts towards no minimum or maximum. What was found, paid or not, stands in ``event_rebate``
with the days that were compared. A closed account is not settled any more.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
from django.db import connection

from prewatt.access.scope import Actor, require, scope, system_actor
from prewatt.billing.models import EventLook, EventRebate
from prewatt.billing.posting import REBATE
from prewatt.billing.queries import (
    Terms,
    VersionChain,
    announced,
    tariffs,
    terms_at,
    terms_of,
    version_chains,
)
from prewatt.billing.usage import standing
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.core.baseline import (
    LONGEST_INTERVAL_US,
    Outcome,
    Rebate,
    Windows,
    energy_in_windows,
    event_windows,
    rebate_of,
)
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import (
    LocalCalendar,
    day_date,
    instant_us,
    utc_datetime,
    utc_year,
)
from prewatt.core.rating import Component
from prewatt.core.readings import ACTIVE_IMPORT
from prewatt.core.tariff import Tariff
from prewatt.core.tariff.model import Overlay, OverlayKind
from prewatt.estate.calendar_changes import property_calendar
from prewatt.ledger.operations import Event, Leg, append_events, lock_accounts, new_event_ids
from prewatt.notify.alerts import REBATES_FAILED
from prewatt.notify.tries import Tries
from prewatt.runtime.copying import read_columns
from prewatt.supply.operations import look_again

#: Hours after an event's end at which it is looked at again, beside the waits of its tariffs.
LOOKS: Final = (48, 72, 7 * 24, 14 * 24, 31 * 24, 62 * 24)
#: Accounts in one transaction.
CHUNK: Final = 250


@dataclass(frozen=True, slots=True)
class Peak:
    """An announced critical peak, as far as it was not withdrawn: [from, until) in µs."""

    event_id: int
    property_id: int
    group: str
    from_us: int
    until_us: int


def code_of(event_id: int) -> str:
    """The code of an event's transfers."""
    return f"event-{event_id}"


def rebate_in(tariff: Tariff, group: str) -> Overlay | None:
    """What a tariff gives back in a group's critical peaks."""
    for each in tariff.overlays:
        if each.kind is OverlayKind.CRITICAL_PEAK and each.group == group:
            return each if each.rebate_nano_per_kwh else None
    return None


def settle_events(*, actor: Actor, now: datetime) -> int:
    """Settle the events that are due for a look; returns how many rebates were paid or corrected.

    One transaction for each chunk of accounts, under their locks; what was done stays done if a
    later one fails, the others are settled, the property gets an alert, and the look is taken again.
    Raises PermissionRefused.
    """
    require(actor, "billing.correct")
    changed, tries = 0, Tries(actor, REBATES_FAILED, now)
    for peak, hours in _due(actor, now):
        with tries.at(peak.property_id):
            changed += _look_at(actor, peak, hours, tries)
    tries.end(idle_too=False)
    return changed


def _look_at(actor: Actor, peak: Peak, hours: int, tries: Tries) -> int:
    """Settle one event, and note the look unless a chunk failed; returns how many rebates changed."""
    changed, settled = 0, 0
    with scope(actor):
        followers = _followers(peak)
        calendar = _calendar(peak)
    chunks = [followers[at : at + CHUNK] for at in range(0, len(followers), CHUNK)]
    for chunk in chunks:
        with tries.at(peak.property_id):
            with scope(actor):
                done = _settle(actor, peak, calendar, chunk, tries.now)
            changed, settled = changed + done, settled + 1
    if settled == len(chunks):
        with scope(actor):
            EventLook.objects.create(
                property_id=peak.property_id, event_id=peak.event_id, hours=hours,
                looked_at=tries.now,
            )  # fmt: skip
    return changed


def measured(account_ids: Sequence[int], windows: Windows, overlay: Overlay) -> dict[int, Rebate]:
    """What accounts (sorted) used in an event and on the days before it; in the caller's scope."""
    accounts, width = np.array(account_ids, dtype=np.int64), windows.day.size
    rows = _intervals(account_ids, windows)
    cell = np.searchsorted(accounts, rows["account_id"]) * width + rows["at"]
    energy, covered = energy_in_windows(
        start_us=rows["start_at"],
        end_us=rows["to_at"],
        energy_wh=rows["energy_wh"],
        cell=cell,
        cell_from_us=np.tile(windows.from_us, accounts.size),
        cell_until_us=np.tile(windows.until_us, accounts.size),
    )
    expected = _metered(account_ids, windows)
    length = np.tile(windows.until_us - windows.from_us, accounts.size)
    is_covered = (covered == expected) & (expected >= length)
    days = windows.day.tolist()
    return {
        account_id: rebate_of(
            overlay,
            days,
            energy[row * width : (row + 1) * width].tolist(),
            is_covered[row * width : (row + 1) * width].tolist(),
        )
        for row, account_id in enumerate(account_ids)
    }


def windows_for(
    peak: Peak, calendar: LocalCalendar, overlay: Overlay, groups: Iterable[str]
) -> Windows:
    """The hours of a peak on its day and on days to compare with, for who follows the groups."""
    others = [
        (each.from_us, each.until_us)
        for each in announced(peak.property_id, groups)
        if each.kind is OverlayKind.CRITICAL_PEAK
    ]
    return event_windows(
        calendar,
        from_us=peak.from_us,
        until_us=peak.until_us,
        baseline_days=overlay.baseline_days,
        other_events=others,
    )


def peaks_between(property_id: int, from_at: datetime, until_at: datetime) -> list[Peak]:
    """The peaks of a property that ended in (from, until], in order; in the caller's scope."""
    with connection.cursor() as cursor:
        cursor.execute(_PEAKS + " WHERE property_id = %s AND until_at > %s AND until_at <= %s"
                       " ORDER BY until_at, id", [property_id, from_at, until_at])  # fmt: skip
        return [_peak(row) for row in cursor.fetchall()]


#: Critical peaks as they were in the end: one that was withdrawn ended then, or never began.
_PEAKS: Final = """
SELECT id, property_id, overlay_group, from_at, until_at FROM (
    SELECT e.id, e.property_id, e.overlay_group, e.from_at,
           coalesce(w.until_at, e.until_at) AS until_at
    FROM price_event e LEFT JOIN price_event w ON w.withdraws_id = e.id
    WHERE e.withdraws_id IS NULL AND coalesce(w.until_at, e.until_at) > e.from_at
) AS peak"""


def _peak(row: Sequence[Any]) -> Peak:
    event_id, property_id, group, from_at, until_at = row
    return Peak(event_id, property_id, group, instant_us(from_at), instant_us(until_at))


# --- which events, and whose ---


def _due(actor: Actor, now: datetime) -> list[tuple[Peak, int]]:
    """The peaks to be looked at now, with the hours after their end that the look stands for."""
    due: list[tuple[Peak, int]] = []
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            _PEAKS + " WHERE until_at <= %s AND until_at > %s ORDER BY until_at, id",
            [now, now - timedelta(hours=max(LOOKS) + 24)],
        )
        peaks = [_peak(row) for row in cursor.fetchall()]
        cursor.execute(
            "SELECT event_id, max(hours) FROM event_look WHERE event_id = ANY(%s) GROUP BY 1",
            [[each.event_id for each in peaks]],
        )
        done = dict(cursor.fetchall())
        for peak in peaks:
            cursor.execute(_WAITS, [peak.property_id, OverlayKind.CRITICAL_PEAK.value, peak.group])
            waits = [int(row[0]) for row in cursor.fetchall()]
            passed = (now - utc_datetime(peak.until_us)) // timedelta(hours=1)
            hours = [each for each in (*waits, *LOOKS) if waits and min(waits) <= each <= passed]
            if hours and max(hours) > done.get(peak.event_id, 0):
                due.append((peak, max(hours)))
    return due


#: How long the tariffs of a property wait with a group's rebates; none where none gives any.
_WAITS: Final = """
SELECT DISTINCT coalesce((o ->> 'wait_hours')::integer, 24)
FROM tariff_version v
CROSS JOIN LATERAL jsonb_array_elements(coalesce(v.content -> 'overlays', '[]')) AS o
WHERE v.property_id = %s AND o ->> 'kind' = %s AND o ->> 'group' = %s AND o ->> 'rebate' IS NOT NULL
"""


def _followers(peak: Peak) -> list[int]:
    """Accounts that ever followed the group, and those that an earlier look paid."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT account_id FROM account_terms
               WHERE property_id = %s AND overlay_groups @> ARRAY[%s]::varchar[]
               UNION SELECT account_id FROM event_rebate WHERE event_id = %s ORDER BY 1""",
            [peak.property_id, peak.group, peak.event_id],
        )
        return [int(row[0]) for row in cursor.fetchall()]


def _calendar(peak: Peak) -> LocalCalendar:
    year = utc_year(peak.from_us)
    return property_calendar(peak.property_id, year - 1, year + 1)


# --- settling ---


@dataclass(frozen=True, slots=True)
class _Found:
    """What a look found for an account."""

    version_id: int
    rebate_nano: int
    rebate: Rebate


@dataclass(frozen=True, slots=True)
class _Before:
    """The latest row of an account for the event, and the transfer that it was booked with."""

    revision: int
    facts: tuple[Any, ...]
    micro: int
    transfer: tuple[int, int] | None


_NOTHING: Final = _Before(-1, (), 0, None)


def _settle(
    actor: Actor, peak: Peak, calendar: LocalCalendar, account_ids: Sequence[int], now: datetime
) -> int:
    """Settle a chunk in the caller's transaction; the locks are taken here."""
    open_accounts = _open(lock_accounts(account_ids), now)
    found = _found(peak, calendar, open_accounts, now)
    before = _before(peak, list(found))
    new = {
        account_id: each
        for account_id, each in found.items()
        if _facts(each) != before.get(account_id, _NOTHING).facts
        and (each.rebate.outcome is not Outcome.NO_REBATE or account_id in before)
    }
    moved = {
        account_id: each.rebate.micro - before.get(account_id, _NOTHING).micro
        for account_id, each in new.items()
    }
    moved = {account_id: micro for account_id, micro in moved.items() if micro}
    transfers = _book(actor, peak, moved, before, now)
    EventRebate.objects.bulk_create(
        EventRebate(
            property_id=peak.property_id,
            account_id=account_id,
            event_id=peak.event_id,
            revision=before.get(account_id, _NOTHING).revision + 1,
            tariff_version_id=each.version_id,
            rebate_nano=each.rebate_nano,
            outcome=each.rebate.outcome.value,
            used_wh=each.rebate.used_wh,
            usual_wh=each.rebate.usual_wh,
            counted=each.rebate.counted,
            days=_told(each.rebate),
            amount_micro=each.rebate.micro,
            transfer_event_id=transfers[account_id][0] if account_id in transfers else None,
            transfer_seq=transfers[account_id][1] if account_id in transfers else None,
            decided_at=now,
        )
        for account_id, each in new.items()
    )
    if moved:
        look_again(
            actor=system_actor("rebates", actor.property_ids), account_ids=sorted(moved), now=now
        )
    return len(moved)


def _open(account_ids: Sequence[int], now: datetime) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT id FROM account WHERE id = ANY(%s) AND (closed_at IS NULL OR closed_at > %s)
               ORDER BY id""",
            [list(account_ids), now],
        )
        return [int(row[0]) for row in cursor.fetchall()]


def _found(
    peak: Peak, calendar: LocalCalendar, account_ids: Sequence[int], now: datetime
) -> dict[int, _Found]:
    """What the event comes to for each account whose plan does not wait any longer."""
    chains, terms = version_chains(account_ids), terms_of(account_ids)
    version_of = {each: _version_at(chains[each], peak.from_us) for each in chains}
    contents = tariffs(set(version_of.values()))
    groups: defaultdict[tuple[int, frozenset[str]], list[int]] = defaultdict(list)
    found = {}
    for account_id, version_id in version_of.items():
        own = _groups(terms.get(account_id, ()), peak)
        overlay = rebate_in(contents[version_id], peak.group) if own else None
        if overlay is None:
            found[account_id] = _Found(version_id, 0, Rebate(Outcome.NO_REBATE, 0, 0, 0, (), 0))
        elif now >= utc_datetime(peak.until_us) + timedelta(hours=overlay.wait_hours):
            groups[version_id, own].append(account_id)
    for (version_id, own), members in groups.items():
        overlay = rebate_in(contents[version_id], peak.group)
        assert overlay is not None, "accounts are grouped by the rebate they have"
        windows = windows_for(peak, calendar, overlay, own)
        for account_id, rebate in measured(sorted(members), windows, overlay).items():
            found[account_id] = _Found(version_id, overlay.rebate_nano_per_kwh, rebate)
    return found


def _groups(terms: Sequence[Terms], peak: Peak) -> frozenset[str]:
    """The groups that an account followed when the peak began; none if its group is not one."""
    own = terms_at(terms, peak.from_us).groups
    return own if peak.group in own else frozenset()


def _version_at(chain: VersionChain, at_us: int) -> int:
    """The version in force; the first also holds before its start."""
    return max([each for each in chain.versions if each[0] <= at_us] or [chain.versions[0]])[1]


def _told(rebate: Rebate) -> list[list[object]]:
    return [[day_date(day).isoformat(), wh, counts] for day, wh, counts in rebate.days]


def _facts(found: _Found) -> tuple[Any, ...]:
    each = found.rebate
    return (
        found.rebate_nano, each.outcome.value, each.used_wh, each.usual_wh, each.counted,
        _told(each), each.micro,
    )  # fmt: skip


def _before(peak: Peak, account_ids: Sequence[int]) -> dict[int, _Before]:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT DISTINCT ON (r.account_id) r.account_id, r.revision, r.rebate_nano, r.outcome,
                      r.used_wh, r.usual_wh, r.counted, r.days, r.amount_micro,
                      b.transfer_event_id, b.transfer_seq
               FROM event_rebate r
               LEFT JOIN LATERAL (
                   SELECT p.transfer_event_id, p.transfer_seq FROM event_rebate p
                   WHERE p.account_id = r.account_id AND p.event_id = r.event_id
                     AND p.transfer_seq IS NOT NULL
                   ORDER BY p.revision DESC LIMIT 1
               ) b ON true
               WHERE r.event_id = %s AND r.account_id = ANY(%s)
               ORDER BY r.account_id, r.revision DESC""",
            [peak.event_id, list(account_ids)],
        )
        rows = cursor.fetchall()
    found = {}
    for account_id, revision, nano, outcome, used, usual, counted, days, micro, event, seq in rows:
        told = json.loads(days) if isinstance(days, str) else days
        facts = (nano, outcome, used, usual, counted, told, micro)
        found[account_id] = _Before(revision, facts, micro, None if event is None else (event, seq))
    return found


def _book(
    actor: Actor,
    peak: Peak,
    moved: Mapping[int, int],
    before: Mapping[int, _Before],
    now: datetime,
) -> dict[int, tuple[int, int]]:
    """Book what accounts get or give back; the (event, seq) of each one's transfer."""
    if not moved:
        return {}
    open_us = _books_open_us(peak.property_id)
    event_of = dict(zip(moved, new_event_ids(len(moved)), strict=True))
    events = []
    for account_id, micro in moved.items():
        event, seq = before.get(account_id, _NOTHING).transfer or (None, None)
        leg = Leg(
            account_id=account_id,
            kind=TransferKind.DAILY if event is None else TransferKind.CORRECTION,
            component=int(Component.REBATE),
            counter_account=CounterAccount.REBATES,
            amount=micro,
            service_from=utc_datetime(max(peak.from_us, open_us)),
            service_to=utc_datetime(max(peak.until_us, open_us)),
            reason=REBATE,
            code=code_of(peak.event_id),
            corrects_event_id=event,
            corrects_seq=seq,
        )
        events.append(Event(event_of[account_id], (leg,)))
    append_events(actor_code=actor.code, events=events, now=now)
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT account_id, event_id, seq FROM transfer
               WHERE account_id = ANY(%s) AND event_id = ANY(%s)""",
            [list(moved), list(event_of.values())],
        )
        return {account_id: (event, seq) for account_id, event, seq in cursor.fetchall()}


def _books_open_us(property_id: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT l.open_from::timestamp AT TIME ZONE p.time_zone
               FROM ledger_period l JOIN property p ON p.id = l.property_id
               WHERE l.property_id = %s""",
            [property_id],
        )
        row = cursor.fetchone()
    return 0 if row is None else instant_us(row[0])


# --- readings ---


def _intervals(account_ids: Sequence[int], windows: Windows) -> dict[str, Int64]:
    """The whole intervals that stand in the windows, as columns; ``at`` is the window's position."""
    columns = read_columns(
        connection.connection,
        _SEGMENTS,
        [
            list(account_ids),
            list(range(windows.day.size)),
            [utc_datetime(each - LONGEST_INTERVAL_US) for each in windows.from_us.tolist()],
            [utc_datetime(each) for each in windows.until_us.tolist()],
        ],
        _KINDS,
    )
    columns = standing(columns)
    order = np.lexsort(
        tuple(columns[each] for each in ("to_at", "start_at", "meter_id", "at", "account_id"))
    )
    columns = {name: values[order] for name, values in columns.items()}
    new = np.ones(order.size, dtype=np.bool_)
    new[1:] = np.logical_or.reduce(
        [
            columns[each][1:] != columns[each][:-1]
            for each in ("account_id", "at", "meter_id", "start_at")
        ]
    )
    first = np.flatnonzero(new)
    if first.size == 0:
        return columns
    last = np.append(first[1:], order.size) - 1
    return {
        **{each: columns[each][first] for each in ("account_id", "at", "start_at")},
        "to_at": columns["to_at"][last],
        "energy_wh": np.add.reduceat(columns["energy_wh"], first),
    }


_KINDS: Final = {
    "account_id": "int8",
    "at": "int8",
    "meter_id": "int8",
    "start_at": "timestamptz",
    "to_at": "timestamptz",
    "revision": "int2",
    "segment": "int2",
    "energy_wh": "int8",
}
_SEGMENTS: Final = f"""
SELECT i.account_id, w.at, i.meter_id, i.start_at, i.to_at, i.revision, i.segment, i.energy_wh
FROM unnest(%s::bigint[]) AS a(account_id)
JOIN meter_state m ON m.account_id = a.account_id AND m.register_code = {ACTIVE_IMPORT}
CROSS JOIN unnest(%s::bigint[], %s::timestamptz[], %s::timestamptz[]) AS w(at, from_at, until_at)
JOIN interval i ON i.account_id = m.account_id AND i.meter_id = m.meter_id
    AND i.register_code = m.register_code AND i.start_at >= w.from_at AND i.start_at < w.until_at
"""  # noqa: S608 - our own numbers


def _metered(account_ids: Sequence[int], windows: Windows) -> Int64:
    """The µs of each account's windows, one account after another, that its meters have to cover."""
    position = {each: row for row, each in enumerate(account_ids)}
    expected = np.zeros((len(account_ids), windows.day.size), dtype=np.int64)
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT account_id, (extract(epoch FROM opened_at) * 1000000)::bigint,
                      CASE WHEN closed_at = 'infinity' THEN %s
                           ELSE (extract(epoch FROM closed_at) * 1000000)::bigint END
               FROM meter_state WHERE account_id = ANY(%s) AND register_code = %s""",
            [2**62, list(account_ids), ACTIVE_IMPORT],
        )
        for account_id, opened, closed in cursor.fetchall():
            low = np.maximum(windows.from_us, opened)
            high = np.minimum(windows.until_us, closed)
            expected[position[account_id]] += np.maximum(high - low, 0)
    return expected.reshape(-1)
