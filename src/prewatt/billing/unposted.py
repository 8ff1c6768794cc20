"""What accounts used since their last posting, read in one pass: how far it goes, its sums, its hash.

PostgreSQL gathers the images of an account's rows one after another; their sums, where the range ends
and its hash are made of these here, where each costs next to nothing. What is stored of an interval
never changes, so nothing has to be locked for it: who posts looks under the locks whether somebody
posted meanwhile, and then reads again.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from prewatt.billing.days import microseconds
from prewatt.billing.images import COMMITTED, INTERVAL_IMAGE
from prewatt.billing.legs import UsageSum
from prewatt.core.bounds import INT64_MAX, Int64, OverflowRefused, magnitude
from prewatt.core.civil_time import DAY_US, LocalCalendar, day_date, instant_us, utc_datetime
from prewatt.core.readings import REVERSED_SEGMENT
from prewatt.runtime.copying import POSTGRES_EPOCH_US, read_records
from prewatt.runtime.prepared import fetch, fetch_binary, integers

#: So many intervals are read at a time, some 30 MB of them; PostgreSQL has no value of more than 1 GB.
_READ_MAX: Final = 100_000
_SUMMED: Final = ("energy_wh", "charge_energy", "charge_fee", "charge_tax", "charge_subsidy")


@dataclass(frozen=True, slots=True)
class Unposted:
    """An account's intervals (from_no, to_no] and what they come to.

    ``last_no`` was the account's last interval; where ``to_no`` is the same, what has come since may
    belong to the range, too. ``sums`` are in order of (corrects, day, version, band, step).
    """

    account_id: int
    from_no: int
    to_no: int
    last_no: int
    digest: bytes
    sums: tuple[UsageSum, ...]

    def still_holds(self, posted_no: int, last_no: int) -> bool:
        """Whether it is what would be read of an account whose numbers have become these."""
        ends_before_others = self.to_no < self.last_no
        return self.from_no == posted_no and (ends_before_others or self.last_no == last_no)


def read_unposted(account_ids: Sequence[int], until: datetime) -> dict[int, Unposted]:
    """What the accounts used after their last posting and up to ``until``, by account.

    A range ends before the first interval that reaches beyond ``until``; it may be empty. An account
    that has used nothing since is left out.
    """
    if not account_ids:
        return {}
    counts = fetch(_COUNTS, [integers(account_ids)])
    return {
        each.account_id: each for some in _packed(counts) for each in _read(some, instant_us(until))
    }


_COUNTS: Final = """
SELECT account_id, interval_no - posted_interval_no FROM account_state
WHERE account_id = ANY(%s::bigint[]) AND interval_no > posted_interval_no ORDER BY account_id
"""
_UNPOSTED: Final = f"""
SELECT s.account_id, s.posted_interval_no, s.interval_no, p.time_zone,
       {microseconds("l.open_from::timestamp AT TIME ZONE p.time_zone", 0)},
       (SELECT string_agg({INTERVAL_IMAGE}, ''::bytea ORDER BY i.interval_no) FROM interval i
        WHERE i.account_id = s.account_id AND i.interval_no > s.posted_interval_no
          AND i.interval_no <= s.posted_interval_no + %s::bigint)
FROM account_state s
JOIN property p ON p.id = s.property_id
LEFT JOIN ledger_period l ON l.property_id = s.property_id
WHERE s.account_id = ANY(%s::bigint[]) AND s.interval_no > s.posted_interval_no
ORDER BY s.account_id
"""  # noqa: S608 - only our own column names are put in
_FURTHER: Final = f"""
SELECT string_agg({INTERVAL_IMAGE}, ''::bytea ORDER BY i.interval_no) FROM interval i
WHERE i.account_id = %s::bigint AND i.interval_no > %s::bigint AND i.interval_no <= %s::bigint
"""  # noqa: S608 - only our own column names are put in


def _packed(counts: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
    """Accounts whose intervals are read together."""
    some: list[int] = []
    size = 0
    for account_id, count in counts:
        if some and size + count > _READ_MAX:
            yield some
            some, size = [], 0
        some.append(account_id)
        size += count
    if some:
        yield some


@dataclass(frozen=True, slots=True)
class _Part:
    """An account's rows within all that were read: [begin, end) up to ``until``. Its local days are
    those of ``time_zone``; its books take nothing before ``books_us``.
    """

    account_id: int
    from_no: int
    last_no: int
    time_zone: str
    books_us: int
    begin: int
    end: int


def _read(account_ids: Sequence[int], until_us: int) -> list[Unposted]:
    found = [
        (*of_account, _whole(first, *of_account[:3]))
        for *of_account, first in fetch_binary(_UNPOSTED, [_READ_MAX, integers(account_ids)])
    ]
    image = b"".join(row[-1] for row in found)
    rows = read_records(image, COMMITTED)
    size = len(image) // max(rows.size, 1)
    beyond = rows["to_at"].astype(np.int64) > until_us - POSTGRES_EPOCH_US
    parts, begin = [], 0
    for account_id, from_no, last_no, time_zone, books_us, own in found:
        end = begin + last_no - from_no
        numbers = rows["interval_no"][begin:end]
        if len(own) != (end - begin) * size or numbers[0] != from_no + 1 or numbers[-1] != last_no:
            raise AssertionError(
                f"account {account_id}: its intervals are not numbered in a row, {from_no} to "
                f"{last_no}: {numbers.tolist()}, {len(own)} bytes of {size} each"
            )
        late = np.flatnonzero(beyond[begin:end])
        chosen = begin + int(late[0]) if late.size else end
        parts.append(_Part(account_id, from_no, last_no, time_zone, books_us, begin, chosen))
        begin = end
    sums = _sums(rows, parts)
    return [
        Unposted(
            part.account_id,
            part.from_no,
            part.from_no + part.end - part.begin,
            part.last_no,
            hashlib.sha256(memoryview(image)[part.begin * size : part.end * size]).digest(),
            tuple(sums[part.account_id]),
        )
        for part in parts
    ]


def _whole(first: bytes, account_id: int, from_no: int, last_no: int) -> bytes:
    """The images of an account's intervals (from_no, last_no], of which the first part has been read.

    What is read later is of the same numbers: intervals never change, and if somebody posts
    meanwhile, the range is read anew under the locks.
    """
    parts = [first]
    for begin_no in range(from_no + _READ_MAX, last_no, _READ_MAX):
        end_no = min(begin_no + _READ_MAX, last_no)
        [(part,)] = fetch_binary(_FURTHER, [account_id, begin_no, end_no])
        parts.append(part or b"")
    return b"".join(parts) if len(parts) > 1 else first


def _sums(rows: npt.NDArray[Any], parts: Sequence[_Part]) -> Mapping[int, list[UsageSum]]:
    """What each account's rows of a local day, version, band and step come to; what corrects posted
    usage apart.
    """
    sums: defaultdict[int, list[UsageSum]] = defaultdict(list)
    chosen = np.concatenate([np.arange(part.begin, part.end) for part in parts])
    if chosen.size == 0:
        return sums
    which = np.repeat(np.arange(len(parts)), [part.end - part.begin for part in parts])
    columns = {name: rows[name][chosen].astype(np.int64) for name in (*_KEY, *_SUMMED)}
    for name in ("from_at", "to_at"):
        columns[name] = rows[name][chosen].astype(np.int64) + POSTGRES_EPOCH_US
    columns["day"] = _days(columns["from_at"], which, parts)
    columns["corrects"] = _corrects(rows, chosen, which, parts)
    keys = [which, *(columns[name] for name in ("corrects", "day", *_KEY))]
    order = np.lexsort(keys[::-1])
    keys = [key[order] for key in keys]
    begins = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    begin = np.concatenate([[0], np.flatnonzero(begins) + 1])
    added = [_added(columns[name][order], begin) for name in _SUMMED]
    from_us = np.minimum.reduceat(columns["from_at"][order], begin)
    to_us = np.maximum.reduceat(columns["to_at"][order], begin)
    table = [key[begin] for key in keys] + added + [from_us, to_us]
    for at, *own in zip(*(column.tolist() for column in table), strict=True):
        corrects, day, version, band, step, *amounts, first_us, last_us = own
        part = parts[at]
        booked_us = max(first_us, part.books_us)
        sums[part.account_id].append(
            UsageSum(
                part.account_id, bool(corrects), day_date(day), version, band, step, *amounts,
                *map(utc_datetime, (first_us, last_us, booked_us)),
            )
        )  # fmt: skip
    return sums


_KEY: Final = ("tariff_version_id", "band", "step")


def _added(values: Int64, begin: Int64) -> Int64:
    if magnitude(values) * values.size > INT64_MAX:
        raise OverflowRefused("the sum of a posting")
    total: Int64 = np.add.reduceat(values, begin)
    return total


def _days(from_us: Int64, which: Int64, parts: Sequence[_Part]) -> Int64:
    """The local day of each row, by the wall clock of its property."""
    zones = sorted({part.time_zone for part in parts})
    zone_of = np.array([zones.index(part.time_zone) for part in parts])[which]
    days = np.zeros_like(from_us)
    for number, zone in enumerate(zones):
        own = zone_of == number
        days[own] = LocalCalendar(zone).wall_us(from_us[own]) // DAY_US
    return days


def _corrects(rows: npt.NDArray[Any], chosen: Int64, which: Int64, parts: Sequence[_Part]) -> Int64:
    """1 for rows inside an interval of which the range takes back a part that is in the ledger.

    How far such intervals reach is carried along in the order of time: one pass, however many.
    """
    corrects = np.zeros(chosen.size, dtype=np.int64)
    taking_back = np.unique(which[rows["segment"][chosen] >= REVERSED_SEGMENT]).tolist()
    if not taking_back:
        return corrects
    for (account_id, meter_id, code), spans in _superseded([parts[at] for at in taking_back]):
        at = next(number for number in taking_back if parts[number].account_id == account_id)
        own = np.flatnonzero(which == at)
        is_same = rows["meter_id"][chosen[own]] == meter_id
        own = own[is_same & (rows["register_code"][chosen[own]] == code)]
        from_us = rows["from_at"][chosen[own]].astype(np.int64) + POSTGRES_EPOCH_US
        begins, ends = np.array(spans, dtype=np.int64).T
        before = np.searchsorted(begins, from_us, side="right")
        reaches = np.concatenate([[-INT64_MAX], np.maximum.accumulate(ends)])[before]
        corrects[own] = from_us < reaches
    return corrects


def _superseded(
    parts: Sequence[_Part],
) -> list[tuple[tuple[int, int, int], list[tuple[int, int]]]]:
    """By (account, meter, register) the intervals in the ledger of which the ranges take back a part,
    as (begin, end) in µs, in order.
    """
    found: defaultdict[tuple[int, int, int], list[tuple[int, int]]] = defaultdict(list)
    columns = [
        [part.account_id for part in parts],
        [part.from_no for part in parts],
        [part.from_no + part.end - part.begin for part in parts],
    ]
    for account_id, meter_id, code, begin_us, end_us in fetch(
        _SUPERSEDED, [integers(column) for column in columns]
    ):
        found[account_id, meter_id, code].append((begin_us, end_us))
    return list(found.items())


_SUPERSEDED: Final = f"""
SELECT o.account_id, o.meter_id, o.register_code, {microseconds("o.start_at")},
       max({microseconds("o.to_at")})
FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS r(account_id, from_no, to_no)
JOIN interval t ON t.account_id = r.account_id
    AND t.interval_no > r.from_no AND t.interval_no <= r.to_no AND t.segment >= {REVERSED_SEGMENT}
JOIN interval o ON o.account_id = t.account_id AND o.meter_id = t.meter_id
    AND o.register_code = t.register_code AND o.start_at = t.start_at
    AND o.revision = t.revision - 1 AND o.segment = t.segment - {REVERSED_SEGMENT}
    AND o.interval_no <= r.from_no
GROUP BY o.account_id, o.meter_id, o.register_code, o.start_at
ORDER BY o.account_id, o.meter_id, o.register_code, o.start_at
"""  # noqa: S608 - only our own column names are put in
