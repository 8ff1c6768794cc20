"""Tariffs made and assigned; usage posted: accrued charges become transfers that never change."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.audit.operations import record
from prewatt.billing.models import Tariff, TariffVersion
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.core.rating import Component
from prewatt.core.tariff import parse_tariff, to_document
from prewatt.ledger.operations import (
    Event,
    Leg,
    UnknownAccount,
    append_events,
    lock_accounts,
    new_event_ids,
)

#: Accounts per posting transaction: bounds memory and how long a lock is held.
POSTING_CHUNK = 5_000

#: "Days left" looks back over this many days of posted usage.
SPEND_DAYS = 14


class NotChargedYet(Exception):
    """A tariff has a component that is not charged yet; taking it would make ghost prices."""


class SelfApproval(Exception):
    """A tariff version named its maker as its approver (invariant 8)."""


def create_tariff_version(
    *,
    actor: Actor,
    property_id: int,
    code: str,
    name: str,
    document: Mapping[str, object],
    valid_from: datetime,
    approved_by: str,
    now: datetime,
) -> int:
    """Store an immutable tariff version and return its id; the tariff is made when new.

    ``document`` is checked first: raises ``core.tariff.TariffRefused`` with place and reason.
    ``approved_by`` must be somebody else than the actor. Raises SelfApproval,
    and NotChargedYet for a standing charge.
    """
    require(actor, "billing.tariff", property_id=property_id)
    if approved_by == actor.code:
        raise SelfApproval(f"{actor.code} cannot approve the tariff they made")
    tariff_content = parse_tariff(document)
    if tariff_content.dated:
        raise NotChargedYet(f"{code}: standing charges are not charged yet; leave out 'standing'")
    content = to_document(tariff_content)
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
    with scope(actor):
        tariff, _ = Tariff.objects.get_or_create(
            property_id=property_id, code=code, defaults={"name": name}
        )
        version = TariffVersion.objects.create(
            property_id=property_id,
            tariff=tariff,
            number=tariff.versions.count() + 1,
            valid_from=valid_from,
            content=content,
            digest=digest,
            made_by=actor.code,
            approved_by=approved_by,
            approved_at=now,
        )
        _advance_epoch(property_id)
        record(
            actor=actor.code,
            code="billing.tariff.version_created",
            property_id=property_id,
            subject=f"tariff:{tariff.pk}",
            now=now,
            version=version.number,
            digest=digest.hex(),
            approved_by=approved_by,
        )
    return int(version.pk)


def assign_tariff(
    *,
    actor: Actor,
    property_id: int,
    account_ids: Sequence[int],
    tariff_code: str,
    valid_from: datetime,
    now: datetime,
) -> None:
    """Put accounts on a tariff from an instant on. Raises Tariff.DoesNotExist, UnknownAccount."""
    require(actor, "estate.write", property_id=property_id)
    with scope(actor):
        tariff = Tariff.objects.get(property_id=property_id, code=tariff_code)
        with connection.cursor() as cursor:
            cursor.execute(
                """INSERT INTO tariff_assignment (property_id, account_id, tariff_id, valid_from)
                   SELECT a.property_id, a.id, %s, %s FROM account a
                   WHERE a.id = ANY(%s) AND a.property_id = %s""",
                [tariff.pk, valid_from, list(account_ids), property_id],
            )
            if cursor.rowcount != len(set(account_ids)):
                raise UnknownAccount(f"not all accounts belong to property {property_id}")
        _advance_epoch(property_id)
        record(
            actor=actor.code,
            code="billing.tariff.assigned",
            property_id=property_id,
            subject=f"tariff:{tariff.pk}",
            now=now,
            accounts=len(account_ids),
        )


def _advance_epoch(property_id: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO tariff_epoch (property_id, epoch) VALUES (%s, 1)
               ON CONFLICT (property_id) DO UPDATE SET epoch = tariff_epoch.epoch + 1""",
            [property_id],
        )
        cursor.execute("SELECT pg_notify('tariff', %s)", [str(property_id)])


@dataclass(frozen=True, slots=True)
class Posted:
    """How much a posting run did."""

    accounts: int
    transfers: int


def post_usage(
    *,
    actor: Actor,
    now: datetime,
    until: datetime,
    cause: str,
    account_ids: Sequence[int] | None = None,
) -> Posted:
    """Post what was used up to ``until``: one event per account, one transfer per day and band.

    The range (posted_interval_no, to] of each account is closed, ``to`` being the last interval
    before the first that reaches beyond ``until``; later arrivals enter the next event under their
    own service day. Available money is unchanged by it. Chunked and resumable: every chunk is its
    own transaction, and a second run finds nothing left to post. ``account_ids`` None means all.
    """
    require(actor, "billing.post")
    posted = Posted(0, 0)
    for chunk in _chunks(actor, account_ids):
        with scope(actor):
            done = _post_chunk(actor, chunk, now=now, until=until, cause=cause)
        posted = Posted(posted.accounts + done.accounts, posted.transfers + done.transfers)
    return posted


def _chunks(actor: Actor, account_ids: Sequence[int] | None) -> list[list[int]]:
    wanted = None if account_ids is None else list(account_ids)
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            """SELECT account_id FROM account_state
               WHERE interval_no > posted_interval_no AND (%s::bigint[] IS NULL OR account_id = ANY(%s))
               ORDER BY account_id""",
            [wanted, wanted],
        )
        ids = [int(row[0]) for row in cursor.fetchall()]
    return [ids[at : at + POSTING_CHUNK] for at in range(0, len(ids), POSTING_CHUNK)]


def _post_chunk(
    actor: Actor, account_ids: list[int], *, now: datetime, until: datetime, cause: str
) -> Posted:
    locked = lock_accounts(account_ids)
    with connection.cursor() as cursor:
        cursor.execute(_RANGES, [until, locked])
        ranges = cursor.fetchall()
        if not ranges:
            return Posted(0, 0)
        event_of = dict(zip((row[0] for row in ranges), new_event_ids(len(ranges)), strict=True))
        columns = [[row[n] for row in ranges] for n in range(4)]
        cursor.execute(_USAGE, [*columns[:3]])
        usage = cursor.fetchall()
    legs = _usage_legs(usage, cause)
    append_events(
        actor_code=actor.code,
        events=[Event(event_of[account], tuple(own)) for account, own in legs.items()],
        now=now,
    )
    charged: defaultdict[int, int] = defaultdict(int)
    energy: defaultdict[int, int] = defaultdict(int)
    for row in usage:
        charged[row[0]] += int(row[3])
        energy[row[0]] += int(row[4])
    _close_ranges(columns, event_of, charged, energy, cause, now)
    _refresh_spend(columns[0], until)
    return Posted(len(ranges), sum(len(own) for own in legs.values()))


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

#: Per account, local service day and band: charge, energy and the span they were used in.
_USAGE = """
SELECT i.account_id, (i.from_at AT TIME ZONE p.time_zone)::date AS day, i.band,
       sum(i.charge_energy)::bigint, sum(i.energy_wh)::bigint, min(i.from_at), max(i.to_at),
       greatest(min(i.from_at), max(l.open_from)::timestamp AT TIME ZONE max(p.time_zone))
FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS r(account_id, from_no, to_no)
JOIN interval i ON i.account_id = r.account_id
    AND i.interval_no > r.from_no AND i.interval_no <= r.to_no
JOIN property p ON p.id = i.property_id
LEFT JOIN ledger_period l ON l.property_id = i.property_id
GROUP BY i.account_id, day, i.band
ORDER BY i.account_id, day, i.band
"""


def _usage_legs(usage: Sequence[tuple[Any, ...]], cause: str) -> dict[int, list[Leg]]:
    """One leg per day and band that costs anything.

    A day in a closed period is booked on the first open instant; the intervals keep their own days.
    """
    legs: dict[int, list[Leg]] = {}
    for account, _, band, charge, energy, _, last, first_open in usage:
        if charge == 0:
            continue
        legs.setdefault(account, []).append(
            Leg(
                account_id=account,
                kind=TransferKind.USAGE,
                component=int(Component.ENERGY),
                counter_account=CounterAccount.ENERGY_REVENUE,
                amount=-charge,
                service_from=first_open,
                service_to=max(last, first_open),
                reason=cause,
                band=band,
                energy_wh=energy,
            )
        )
    return legs


def _close_ranges(
    columns: list[list[int]],
    event_of: Mapping[int, int],
    charged: Mapping[int, int],
    energy: Mapping[int, int],
    cause: str,
    now: datetime,
) -> None:
    """Write the posting rows with their commitment and take the posted charges off the accrual."""
    accounts, from_no, to_no, _ = columns
    with connection.cursor() as cursor:
        cursor.execute(
            _CLOSE,
            [
                accounts,
                from_no,
                to_no,
                [event_of[each] for each in accounts],
                [charged.get(each, 0) for each in accounts],
                [energy.get(each, 0) for each in accounts],
                now,
                cause,
                now,
            ],
        )
        if cursor.rowcount != len(accounts):
            raise AssertionError(f"{len(accounts)} postings meant, {cursor.rowcount} written")


#: ``interval_hash`` is SHA-256 over the intervals of the range in order of interval_no, each as the
#: text ``v1|meter|register|start|revision|segment|no|from|to|start_wh|end_wh|multiplier|energy|
#: quality|tariff version|band|price|charge`` (instants in µs), joined by newlines.
_CLOSE = """
WITH r AS MATERIALIZED (
    SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
        %s::bigint[]) AS t(account_id, from_no, to_no, event_id, charge, energy_wh)
), sealed AS (
    SELECT r.account_id, sha256(convert_to(string_agg(concat_ws('|', 'v1', i.meter_id,
        i.register_code, (date_part('epoch', i.start_at) * 1000000)::bigint, i.revision, i.segment,
        i.interval_no, (date_part('epoch', i.from_at) * 1000000)::bigint,
        (date_part('epoch', i.to_at) * 1000000)::bigint, i.start_value_wh, i.end_value_wh,
        i.multiplier, i.energy_wh, i.quality, i.tariff_version_id, i.band, i.price_nano,
        i.charge_energy), E'\\n' ORDER BY i.interval_no), 'UTF8')) AS hash
    FROM r JOIN interval i ON i.account_id = r.account_id
        AND i.interval_no > r.from_no AND i.interval_no <= r.to_no
    GROUP BY r.account_id
), state AS (
    UPDATE account_state s
    SET accrued_energy = s.accrued_energy - r.charge, posted_interval_no = r.to_no,
        posting_no = s.posting_no + 1, updated_at = greatest(s.updated_at, %s)
    FROM r WHERE s.account_id = r.account_id
    RETURNING s.account_id, s.property_id, s.posting_no
)
INSERT INTO posting (account_id, posting_no, property_id, event_id, interval_no_from, interval_no_to,
    interval_hash, energy_wh, amount, cause, posted_at)
SELECT r.account_id, s.posting_no, s.property_id, r.event_id, r.from_no, r.to_no, h.hash,
       r.energy_wh, r.charge, %s, %s
FROM r JOIN sealed h USING (account_id) JOIN state s USING (account_id)
"""


def _refresh_spend(account_ids: Sequence[int], until: datetime) -> None:
    """Average charge per day over the last two weeks (or since the first day), for "days left"."""
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE account_state s SET spend_per_day = greatest(0, u.per_day)
               FROM (SELECT account_id, (-sum(amount) / greatest(1, least(%s,
                         ceil(extract(epoch FROM %s - min(service_from)) / 86400))))::bigint AS per_day
                     FROM transfer
                     WHERE account_id = ANY(%s) AND kind = %s AND service_from >= %s
                     GROUP BY account_id) u
               WHERE s.account_id = u.account_id""",
            [
                SPEND_DAYS,
                until,
                list(account_ids),
                int(TransferKind.USAGE),
                until - timedelta(days=SPEND_DAYS),
            ],
        )
