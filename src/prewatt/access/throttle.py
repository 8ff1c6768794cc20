"""Failed sign-ins, counted in PostgreSQL for all processes at once.

A try is counted before the password is looked at, so that a thousand tries at the same instant are a
thousand; a success takes its own count back. Names of buckets are digests under the server's key:
the table says nothing about who tried, or whether there is such a person.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from django.db import connection, transaction
from django.utils.crypto import salted_hmac

from prewatt.core.throttle import ACCOUNT, DEVICE, NETWORK, PAIR, Bucket, Rule

#: Rows that long untouched say nothing any more; so many of them go with each try.
_KEPT: Final = timedelta(days=2)
_SWEPT_MAX: Final = 50


@dataclass(frozen=True, slots=True)
class Try:
    """A try that may go on to the password; hand it to :func:`succeeded` when that was right."""

    rules: Mapping[str, Rule]


@dataclass(frozen=True, slots=True)
class Wait:
    """A try that was not looked at, and was not counted: try again after so many seconds."""

    seconds: int


def begin(*, email: str, address: str, device: str, now: datetime) -> Try | Wait:
    """Count a try of a mail address from a network address, or say how long to wait.

    ``device`` names a browser in which this person signed in before, else it is empty. Takes the same
    steps for people who exist and people who do not.
    """
    return begin_with(_buckets(email, address, device), now=now)


def begin_with(rules: Mapping[str, Rule], *, now: datetime) -> Try | Wait:
    """The same for buckets that the caller names (`name`)."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO sign_in_throttle (bucket, tries, last_at, wait_until)
               SELECT b, 0, %s, %s FROM unnest(%s::text[]) AS b ORDER BY b ON CONFLICT DO NOTHING""",
            [now, now, sorted(rules)],
        )
        cursor.execute(
            """SELECT bucket, tries, last_at, wait_until FROM sign_in_throttle
               WHERE bucket = ANY(%s) ORDER BY bucket FOR NO KEY UPDATE""",
            [sorted(rules)],
        )
        stored = {each: Bucket(*rest) for each, *rest in cursor.fetchall()}
        left = max(stored[each].left(rule, now) for each, rule in rules.items())
        if left > timedelta(0):
            return Wait(-(-left // timedelta(seconds=1)))
        _write({each: stored[each].counted(rule, now) for each, rule in rules.items()})
        cursor.execute(
            """DELETE FROM sign_in_throttle WHERE bucket IN (
                   SELECT bucket FROM sign_in_throttle WHERE last_at < %s
                   ORDER BY last_at LIMIT %s FOR UPDATE SKIP LOCKED)""",
            [now - _KEPT, _SWEPT_MAX],
        )
    return Try(rules)


def succeeded(tried: Try) -> None:
    """Forget the person's failures, and take this try back from those of the whole network.

    The network's own count stays: who has one sign-in of their own shall not clear it for the rest.
    """
    own = [each for each, rule in tried.rules.items() if rule is not NETWORK]
    rest = [each for each in tried.rules if each not in own]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM sign_in_throttle WHERE bucket = ANY(%s)", [own])
        cursor.execute(
            """UPDATE sign_in_throttle SET tries = greatest(tries - 1, 0), wait_until = last_at
               WHERE bucket = ANY(%s)""",
            [rest],
        )


def count_refused(*, network: str, now: datetime) -> int:
    """One more refused try of a network within this hour; returns how many there are. Makes nobody wait."""
    hour = f"{now.astimezone(UTC):%Y-%m-%dT%H}"
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO sign_in_throttle AS t (bucket, tries, last_at, wait_until)
               VALUES (%(bucket)s, 1, %(now)s, %(now)s)
               ON CONFLICT (bucket) DO UPDATE SET tries = t.tries + 1, last_at = excluded.last_at
               RETURNING tries""",
            {"bucket": name("refused", network, hour), "now": now},
        )
        return int(cursor.fetchone()[0])


def _buckets(email: str, address: str, device: str) -> dict[str, Rule]:
    if device:
        return {name("device", email, device): DEVICE}
    network = network_of(address)
    return {
        name("pair", email, network): PAIR,
        name("network", network): NETWORK,
        name("account", email): ACCOUNT,
    }


def network_of(address: str) -> str:
    """One customer's network: an IPv4 address, or the /64 that an IPv6 address stands in."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip.packed[:8] + bytes(8), 64)))
    return str(ip)


def name(kind: str, *parts: str) -> str:
    """The name of a bucket: a digest, so that the table tells nobody who tried."""
    digest = salted_hmac("prewatt.sign-in", "\n".join(parts), algorithm="sha256").hexdigest()
    return f"{kind}:{digest}"


def _write(buckets: Mapping[str, Bucket]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE sign_in_throttle t SET tries = n.tries, last_at = n.last_at,
                   wait_until = n.wait_until
               FROM unnest(%s::text[], %s::integer[], %s::timestamptz[], %s::timestamptz[])
                    AS n(bucket, tries, last_at, wait_until)
               WHERE t.bucket = n.bucket""",
            [
                list(buckets),
                [each.tries for each in buckets.values()],
                [each.last_at for each in buckets.values()],
                [each.wait_until for each in buckets.values()],
            ],
        )
