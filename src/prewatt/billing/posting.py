"""Usage posted: accrued charges become transfers that never change, and the range is sealed.

A posting closes the range (posted_interval_no, to] of an account's intervals, writes what they sum to
as one event (``legs``), commits to them by hash and takes their charges off what has accrued. The
available balance is the same before and after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection

from prewatt.access.scope import Actor
from prewatt.billing.daily import daily_legs
from prewatt.billing.day_charges import COLLECTED
from prewatt.billing.legs import PostedLine, UsageSum, usage_legs
from prewatt.billing.queries import tariffs, terms_at, terms_of
from prewatt.core.accounts import TransferKind
from prewatt.core.civil_time import instant_us
from prewatt.ledger.operations import (
    Event,
    Leg,
    append_events,
    lock_accounts,
    new_event_ids,
)

#: The cause of a posting that goes with somebody's coming or leaving.
MOVE = "move"

#: The reason of what announced peaks give back (``rebates``); stored, never renamed.
REBATE = "rebate.event"
#: "Days left" looks back over this many days of what was posted for use and for time.
SPEND_DAYS = 14
SPENDING = (TransferKind.USAGE, TransferKind.DAILY, TransferKind.CORRECTION)


@dataclass(frozen=True, slots=True)
class Posted:
    """How much a posting run did."""

    accounts: int
    transfers: int


def post_chunk(
    actor: Actor, account_ids: list[int], *, now: datetime, until: datetime, cause: str
) -> Posted:
    """Post the accounts' usage up to ``until``, in the caller's transaction; the locks are taken here."""
    locked = lock_accounts(account_ids)
    with connection.cursor() as cursor:
        cursor.execute(_RANGES, [until, locked])
        ranges = cursor.fetchall()
    by_days = daily_legs(
        account_ids=locked,
        ranges=[row[:3] for row in ranges],
        until=until,
        lives_changed=cause == MOVE,
    )
    accounts = sorted({row[0] for row in ranges} | by_days.keys())
    if not accounts:
        return Posted(0, 0)
    event_of = dict(zip(accounts, new_event_ids(len(accounts)), strict=True))
    columns = [[row[n] for row in ranges] for n in range(4)]
    sums = _usage_sums(columns)
    legs = _legs(sums, cause)
    for account_id, own in by_days.items():
        legs[account_id] = [*legs.get(account_id, ()), *own]
    append_events(
        actor_code=actor.code,
        events=[Event(event_of[account], tuple(own)) for account, own in legs.items()],
        now=now,
    )
    _close_ranges(columns, event_of, sums, cause, now)
    _refresh_spend(accounts, until)
    return Posted(len(accounts), sum(len(own) for own in legs.values()))


#: (account, from, to, property) of each account with something to post up to an instant.
_RANGES = """
SELECT s.account_id, s.posted_interval_no, r.last_no, s.property_id
FROM account_state s
CROSS JOIN LATERAL (
    SELECT coalesce(min(i.interval_no) FILTER (WHERE i.to_at > %s) - 1, s.interval_no) AS last_no
    FROM interval i
    WHERE i.account_id = s.account_id AND i.interval_no > s.posted_interval_no
) r
WHERE s.account_id = ANY(%s) AND r.last_no > s.posted_interval_no
ORDER BY s.account_id
"""


def _usage_sums(columns: list[list[int]]) -> list[UsageSum]:
    """What the ranges sum to; what corrects posted usage apart, in accounts that take back any."""
    accounts, from_no, to_no, _ = columns
    with connection.cursor() as cursor:
        cursor.execute(_USAGE, [accounts, from_no, to_no])
        rows = cursor.fetchall()
        taking_back = {row[0] for row in rows if row[-1]}
        if taking_back:
            chosen = [at for at, each in enumerate(accounts) if each in taking_back]
            cursor.execute(
                _USAGE_WITH_CORRECTIONS, [[column[at] for at in chosen] for column in columns[:3]]
            )
            rows = [row for row in rows if row[0] not in taking_back] + cursor.fetchall()
    return [UsageSum(*row[:-1]) for row in rows]


#: Per account, local service day, version, band and step: energy, charges by component, the span
#: they were used in and the first instant of it that open books take, and whether anything was
#: taken back.
_SUMS = """
SELECT i.account_id, {corrects} AS corrects, (i.from_at AT TIME ZONE p.time_zone)::date AS day,
       i.tariff_version_id, i.band, i.step, sum(i.energy_wh)::bigint, sum(i.charge_energy)::bigint,
       sum(i.charge_fee)::bigint, sum(i.charge_tax)::bigint, sum(i.charge_subsidy)::bigint,
       min(i.from_at), max(i.to_at),
       greatest(min(i.from_at), max(l.open_from)::timestamp AT TIME ZONE max(p.time_zone)),
       bool_or(i.segment >= 10000)
FROM {source}
JOIN property p ON p.id = i.property_id
LEFT JOIN ledger_period l ON l.property_id = i.property_id
GROUP BY i.account_id, corrects, day, i.tariff_version_id, i.band, i.step
ORDER BY i.account_id, corrects, day, i.tariff_version_id, i.band, i.step
"""
_RANGE = """
WITH r AS (
    SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS t(account_id, from_no, to_no)
)"""
_IN_RANGE = """r JOIN interval i ON i.account_id = r.account_id
    AND i.interval_no > r.from_no AND i.interval_no <= r.to_no"""
_USAGE = _RANGE + _SUMS.format(corrects="false", source=_IN_RANGE)
#: Rows inside an interval of which the range takes back a part that is in the ledger correct it. How
#: far such intervals reach is carried along in the order of time: one pass, however many there are.
_SUPERSEDED = """, superseded AS (
    SELECT o.account_id, o.meter_id, o.register_code, o.start_at, max(o.to_at) AS end_at
    FROM r
    JOIN interval t ON t.account_id = r.account_id
        AND t.interval_no > r.from_no AND t.interval_no <= r.to_no AND t.segment >= 10000
    JOIN interval o ON o.account_id = t.account_id AND o.meter_id = t.meter_id
        AND o.register_code = t.register_code AND o.start_at = t.start_at
        AND o.revision = t.revision - 1 AND o.segment = t.segment - 10000
        AND o.interval_no <= r.from_no
    GROUP BY o.account_id, o.meter_id, o.register_code, o.start_at
)"""
_COLUMNS = """tariff_version_id, band, step, energy_wh, charge_energy, charge_fee, charge_tax,
    charge_subsidy, from_at, to_at, segment, property_id"""
_MARKED = f"""(
    SELECT m.*, max(m.end_at) OVER (
        PARTITION BY m.account_id, m.meter_id, m.register_code
        ORDER BY coalesce(m.from_at, m.start_at)) AS reaches
    FROM (SELECT i.account_id, i.meter_id, i.register_code, i.start_at, NULL::timestamptz AS end_at,
                 {", ".join(f"i.{each.strip()}" for each in _COLUMNS.split(","))}
          FROM {_IN_RANGE}
          UNION ALL
          SELECT account_id, meter_id, register_code, start_at, end_at,
                 {", ".join("NULL" for _ in _COLUMNS.split(","))}
          FROM superseded) m) i"""  # noqa: S608 - only our own constants are put in
_USAGE_WITH_CORRECTIONS = (
    _RANGE
    + _SUPERSEDED
    # What marks an interval has no property and drops out with the join to it.
    + _SUMS.format(corrects="coalesce(i.from_at < i.reaches, false)", source=_MARKED)
)


def _legs(sums: Sequence[UsageSum], cause: str) -> dict[int, list[Leg]]:
    """The transfers of the sums, with the tariffs, exemptions and posted lines that they need."""
    with_added = [each for each in sums if each.fee or each.tax or each.subsidy]
    terms = terms_of(sorted({each.account_id for each in with_added if each.tax}))

    def exempt(account_id: int, at: datetime) -> frozenset[str]:
        return terms_at(terms.get(account_id, ()), instant_us(at)).exempt

    return usage_legs(
        sums,
        plans=tariffs({each.version_id for each in with_added}),
        exempt=exempt,
        posted=_posted_lines([each for each in sums if each.corrects]),
        cause=cause,
    )


def _posted_lines(corrections: Sequence[UsageSum]) -> list[PostedLine]:
    """The usage transfers of the accounts and days that corrections are about."""
    if not corrections:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT t.account_id, c.day, t.event_id, t.seq, t.component, t.band, t.step, t.code
               FROM (SELECT DISTINCT * FROM unnest(%s::bigint[], %s::date[])
                     AS u(account_id, day)) c
               JOIN transfer t USING (account_id)
               JOIN property p ON p.id = t.property_id
               WHERE t.kind = %s AND (t.service_from AT TIME ZONE p.time_zone)::date = c.day""",
            [
                [each.account_id for each in corrections],
                [each.day for each in corrections],
                int(TransferKind.USAGE),
            ],
        )
        return [PostedLine(*row) for row in cursor.fetchall()]


def _close_ranges(
    columns: list[list[int]],
    event_of: Mapping[int, int],
    sums: Sequence[UsageSum],
    cause: str,
    now: datetime,
) -> None:
    """Write the posting rows with their commitment and take the posted charges off the accrual."""
    accounts, from_no, to_no, _ = columns
    place = {account: at for at, account in enumerate(accounts)}
    totals = {
        name: [0] * len(accounts) for name in ("energy", "fee", "tax", "subsidy", "energy_wh")
    }
    for each in sums:
        for name, total in totals.items():
            total[place[each.account_id]] += getattr(each, name)
    with connection.cursor() as cursor:
        cursor.execute(
            _CLOSE,
            [
                accounts,
                from_no,
                to_no,
                [event_of[each] for each in accounts],
                *totals.values(),
                now,
                cause,
                now,
            ],
        )
        if cursor.rowcount != len(accounts):
            raise AssertionError(f"{len(accounts)} postings meant, {cursor.rowcount} written")


#: ``interval_hash`` is SHA-256 over the intervals of the range in order of interval_no, each as the
#: text ``v2|meter|register|start|revision|segment|no|from|to|start_wh|end_wh|multiplier|energy|
#: quality|tariff version|band|step|price|energy charge|standing|tax|fee|demand|subsidy`` (instants
#: in µs), joined by newlines.
INTERVAL_LINE = """concat_ws('|', 'v2', i.meter_id,
        i.register_code, (date_part('epoch', i.start_at) * 1000000)::bigint, i.revision, i.segment,
        i.interval_no, (date_part('epoch', i.from_at) * 1000000)::bigint,
        (date_part('epoch', i.to_at) * 1000000)::bigint, i.start_value_wh, i.end_value_wh,
        i.multiplier, i.energy_wh, i.quality, i.tariff_version_id, i.band, i.step, i.price_nano,
        i.charge_energy, i.charge_standing, i.charge_tax, i.charge_fee, i.charge_demand,
        i.charge_subsidy)"""
_CLOSE = f"""
WITH r AS MATERIALIZED (
    SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
        %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
        AS t(account_id, from_no, to_no, event_id, energy, fee, tax, subsidy, energy_wh)
), sealed AS (
    SELECT r.account_id, sha256(convert_to(string_agg({INTERVAL_LINE}, E'\\n' ORDER BY i.interval_no), 'UTF8')) AS hash
    FROM r JOIN interval i ON i.account_id = r.account_id
        AND i.interval_no > r.from_no AND i.interval_no <= r.to_no
    GROUP BY r.account_id
), state AS (
    UPDATE account_state s
    SET accrued_energy = s.accrued_energy - r.energy, accrued_fee = s.accrued_fee - r.fee,
        accrued_tax = s.accrued_tax - r.tax, accrued_subsidy = s.accrued_subsidy - r.subsidy,
        posted_interval_no = r.to_no, posting_no = s.posting_no + 1,
        updated_at = greatest(s.updated_at, %s)
    FROM r WHERE s.account_id = r.account_id
    RETURNING s.account_id, s.property_id, s.posting_no
)
INSERT INTO posting (account_id, posting_no, property_id, event_id, interval_no_from, interval_no_to,
    interval_hash, energy_wh, amount, cause, posted_at)
SELECT r.account_id, s.posting_no, s.property_id, r.event_id, r.from_no, r.to_no, h.hash,
       r.energy_wh, r.energy + r.fee + r.tax + r.subsidy, %s, %s
FROM r JOIN sealed h USING (account_id) JOIN state s USING (account_id)
"""  # noqa: S608 - only our own constant is put in


def _refresh_spend(account_ids: Sequence[int], until: datetime) -> None:
    """Average charge per day over the last two weeks (or since the first day), for "days left"."""
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE account_state s SET spend_per_day = greatest(0, u.per_day)
               FROM (SELECT account_id, (-sum(amount) / greatest(1, least(%s,
                         ceil(extract(epoch FROM %s - min(service_from)) / 86400))))::bigint AS per_day
                     FROM transfer
                     WHERE account_id = ANY(%s) AND kind = ANY(%s) AND service_from >= %s
                       AND reason <> ALL(%s)
                     GROUP BY account_id) u
               WHERE s.account_id = u.account_id""",
            [
                SPEND_DAYS,
                until,
                list(account_ids),
                [int(each) for each in SPENDING],
                until - timedelta(days=SPEND_DAYS),
                # A month at once is not what a day costs, nor is what one evening gave back.
                [COLLECTED, REBATE],
            ],
        )
