"""Usage posted: accrued charges become transfers that never change, and the range is sealed.

A posting closes the range (posted_interval_no, to] of an account's intervals, writes what they sum to
as one event (``legs``), commits to them by hash and takes their charges off what has accrued. The
available balance is the same before and after.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import connection

from prewatt.access.scope import Actor
from prewatt.billing.daily import daily_legs
from prewatt.billing.day_charges import COLLECTED
from prewatt.billing.images import HASH_VERSION
from prewatt.billing.legs import PostedLine, UsageSum, usage_legs
from prewatt.billing.queries import tariffs, terms_at, terms_of
from prewatt.billing.unposted import Unposted, read_unposted
from prewatt.core.accounts import TransferKind
from prewatt.core.civil_time import day_number, instant_us
from prewatt.ledger.operations import Event, Leg, append_events, lock_numbers, new_event_ids
from prewatt.runtime.prepared import fetch, integers, texts

#: The cause of a posting that goes with somebody's coming or leaving.
MOVE = "move"

#: The reason of what announced peaks give back (``rebates``); stored, never renamed.
REBATE = "rebate.event"
#: "Days left" looks back over this many days of what was posted for use and for time, in at most so
#: many of the latest transfers: an account has ever more of them.
SPEND_DAYS = 14
SPEND_TRANSFERS = 512
SPENDING = (TransferKind.USAGE, TransferKind.DAILY, TransferKind.CORRECTION)


@dataclass(frozen=True, slots=True)
class Posted:
    """How much a posting run did."""

    accounts: int
    transfers: int


def post_chunk(
    actor: Actor, account_ids: list[int], *, now: datetime, until: datetime, cause: str
) -> Posted:
    """Post the accounts' usage up to ``until``, in the caller's transaction; the locks are taken here,
    after usage was read and added up.
    """
    usage = read_unposted(account_ids, until)
    numbers = lock_numbers(account_ids)
    usage = _as_locked(usage, numbers, until)
    sums = [each for account in sorted(usage) for each in usage[account].sums]
    by_days = daily_legs(
        account_ids=sorted(numbers),
        energy=_energy_by_day(sums),
        until=until,
        lives_changed=cause == MOVE,
    )
    accounts = sorted(usage.keys() | by_days.keys())
    if not accounts:
        return Posted(0, 0)
    event_of = dict(zip(accounts, new_event_ids(len(accounts)), strict=True))
    legs = _legs(sums, cause)
    for account_id, own in by_days.items():
        legs[account_id] = [*legs.get(account_id, ()), *own]
    append_events(
        actor_code=actor.code,
        events=[Event(event_of[account], tuple(own)) for account, own in legs.items()],
        now=now,
    )
    _close(event_of, usage, numbers, until=until, cause=cause, now=now)
    return Posted(len(accounts), sum(len(own) for own in legs.values()))


def _as_locked(
    usage: Mapping[int, Unposted], numbers: Mapping[int, tuple[int, int]], until: datetime
) -> dict[int, Unposted]:
    """The usage of the locked accounts that has something to post; what somebody posted or added
    to before the locks were there is read again.
    """
    changed = [
        account_id
        for account_id, (posted_no, last_no) in numbers.items()
        if not (
            usage[account_id].still_holds(posted_no, last_no)
            if account_id in usage
            else posted_no == last_no
        )
    ]
    found = {**{each: usage[each] for each in usage.keys() & numbers.keys()}}
    for account_id in changed:
        found.pop(account_id, None)
    found |= read_unposted(changed, until)
    return {account_id: each for account_id, each in found.items() if each.to_no > each.from_no}


def _energy_by_day(sums: Sequence[UsageSum]) -> dict[tuple[int, int], int]:
    """Energy charges by (account, local day)."""
    energy: defaultdict[tuple[int, int], int] = defaultdict(int)
    for each in sums:
        energy[each.account_id, day_number(each.day)] += each.energy
    return energy


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


def _close(
    event_of: Mapping[int, int],
    usage: Mapping[int, Unposted],
    numbers: Mapping[int, tuple[int, int]],
    *,
    until: datetime,
    cause: str,
    now: datetime,
) -> None:
    """Write the posting rows with their commitment, take the posted charges off the accrual, and
    average anew what an account spends. An account without usage only has days: it has no range.
    """
    accounts = list(event_of)
    totals = [_totals(usage[each].sums) if each in usage else _NOTHING for each in accounts]
    closed = [
        (usage[each].from_no, usage[each].to_no, usage[each].digest.hex())
        if each in usage
        else (numbers[each][0], numbers[each][0], None)
        for each in accounts
    ]
    from_no, to_no, digest = zip(*closed, strict=True)
    [(moved, written)] = fetch(
        _CLOSE,
        [
            integers(accounts),
            integers(from_no),
            integers(to_no),
            integers(event_of.values()),
            texts(digest),
            *(integers(each) for each in zip(*totals, strict=True)),
            SPEND_DAYS,
            until,
            SPEND_TRANSFERS,
            integers(int(each) for each in SPENDING),
            until - timedelta(days=SPEND_DAYS),
            # A month at once is not what a day costs, nor is what one evening gave back.
            texts([COLLECTED, REBATE]),
            now,
            HASH_VERSION,
            cause,
            now,
        ],
    )
    if (moved, written) != (len(accounts), len(usage)):
        raise AssertionError(f"{len(usage)} postings meant, {written} written")


_NOTHING: Final = (0, 0, 0, 0, 0)


def _totals(sums: Sequence[UsageSum]) -> tuple[int, int, int, int, int]:
    """Energy, fee, tax and subsidy in micro-units, and Wh."""
    return (
        sum([each.energy for each in sums]),
        sum([each.fee for each in sums]),
        sum([each.tax for each in sums]),
        sum([each.subsidy for each in sums]),
        sum([each.energy_wh for each in sums]),
    )


_CLOSE = """
WITH r AS MATERIALIZED (
    SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[],
        %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
        AS t(account_id, from_no, to_no, event_id, digest, energy, fee, tax, subsidy, energy_wh)
), state AS (
    UPDATE account_state s
    SET accrued_energy = s.accrued_energy - r.energy, accrued_fee = s.accrued_fee - r.fee,
        accrued_tax = s.accrued_tax - r.tax, accrued_subsidy = s.accrued_subsidy - r.subsidy,
        posted_interval_no = r.to_no, posting_no = s.posting_no + (r.digest IS NOT NULL)::int,
        spend_per_day = coalesce((
            SELECT CASE WHEN count(*) > 0 THEN greatest(0, (-sum(t.amount) / greatest(1, least(%s::int,
                ceil(extract(epoch FROM %s::timestamptz - min(t.service_from)) / 86400))))::bigint) END
            FROM transfer t
            WHERE t.account_id = s.account_id AND t.seq > s.transfer_seq - %s::int
              AND t.kind = ANY(%s::smallint[]) AND t.service_from >= %s::timestamptz
              AND t.reason <> ALL(%s::text[])), s.spend_per_day),
        updated_at = greatest(s.updated_at, %s::timestamptz)
    FROM r
    WHERE s.account_id = r.account_id AND s.posted_interval_no = r.from_no
    RETURNING s.account_id, s.property_id, s.posting_no
), written AS (
    INSERT INTO posting (account_id, posting_no, property_id, event_id, interval_no_from,
        interval_no_to, interval_hash, hash_version, energy_wh, amount, cause, posted_at)
    SELECT r.account_id, s.posting_no, s.property_id, r.event_id, r.from_no, r.to_no,
           decode(r.digest, 'hex'), %s::smallint, r.energy_wh, r.energy + r.fee + r.tax + r.subsidy,
           %s::text, %s::timestamptz
    FROM r JOIN state s USING (account_id) WHERE r.digest IS NOT NULL
    RETURNING 1
)
SELECT (SELECT count(*) FROM state), (SELECT count(*) FROM written)
"""
