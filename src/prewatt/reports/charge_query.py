"""Reads one charge of an account: its transfers, the intervals behind them, what it corrects."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import groupby
from typing import Any, Final

from prewatt.access.scope import Actor, scope
from prewatt.billing.queries import HOLDS
from prewatt.core.accounts import TransferKind
from prewatt.core.baseline import Outcome
from prewatt.core.civil_time import day_number
from prewatt.core.rating import Component
from prewatt.core.tariff import Tariff, parse_tariff
from prewatt.reports.account import EntryKind
from prewatt.reports.charge_page import ChargeLine, ChargePage, Corrected, Rebated, Run
from prewatt.reports.place import NoSuchThing, place_of, rows
from prewatt.reports.today import Place
from prewatt.reports.units import units_of_account

KINDS: Final = {
    EntryKind.USAGE: TransferKind.USAGE,
    EntryKind.DAILY: TransferKind.DAILY,
    EntryKind.CORRECTION: TransferKind.CORRECTION,
}
_ESTIMATED: Final = 2
#: A reversal's segment number is that of the segment it takes back and this.
_REVERSED: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Leg:
    """A transfer as it stands in the ledger."""

    seq: int
    component: Component
    band: int
    step: int
    code: str
    tax_rate_ppm: int
    amount: int
    energy_wh: int
    service_from: datetime
    booked_at: datetime
    corrects_seq: int | None


def charge_page(
    *, actor: Actor, account_id: int, event_id: int, kind: EntryKind, day: date, now: datetime
) -> ChargePage:
    """One charge with all that it is made of.

    Raises NoSuchThing for an account out of sight, or an event without such a charge on that day.
    """
    with scope(actor):
        place = place_of(actor)
        unit = units_of_account(
            property_id=place.property_id, now=now, account_id=account_id, former=True
        )
        legs = _legs(account_id, event_id, kind, day, place)
        if not unit or not legs:
            raise NoSuchThing(f"account {account_id} has no such charge in event {event_id}")
        runs = [] if kind is EntryKind.DAILY else _runs(account_id, event_id, kind, day, place)
        tariffs = _tariffs(account_id, legs[0].service_from, {run.version_id for run in runs})
        peaks = _peaks(account_id, day, legs)
        rebated = _rebated(account_id, event_id, legs)
        corrected = _corrected(account_id, legs, tariffs, place)
        adds_up = _adds_up(legs, runs)
        # Where all readings of the day are here, it matters nothing that others are not.
        look = kind is not EntryKind.DAILY and adds_up is not True
        archive = _archive_of(account_id, event_id, day) if look else ""
    return ChargePage(
        place=place,
        now=now,
        account_id=account_id,
        unit=unit[0].name,
        customer=unit[0].customer,
        event_id=event_id,
        kind=kind,
        day=day,
        booked_at=max(leg.booked_at for leg in legs),
        first_line=legs[0].seq,
        last_line=legs[-1].seq,
        lines=_lines(legs, runs, tariffs, peaks, rebated),
        runs=tuple(runs),
        tariffs=tariffs,
        corrected=corrected,
        adds_up=None if archive else adds_up,
        archive=archive,
    )


def _archive_of(account_id: int, event_id: int, day: date) -> str:
    """The files in which intervals of a posting are archived, those of the day's month if it has any,
    or nothing.
    """
    found = rows(
        """SELECT coalesce(string_agg(f.file_name, ', ' ORDER BY f.month) FILTER (
                      WHERE f.month IN (date_trunc('month', %s::date - 1),
                                        date_trunc('month', %s::date + 1))),
                  string_agg(f.file_name, ', ' ORDER BY f.month))
           FROM posting p
           JOIN archived_partition f ON f.base = 'interval'
           WHERE p.account_id = %s AND p.event_id = %s AND EXISTS (
               SELECT FROM archived_account x WHERE x.account_id = p.account_id AND x.month = f.month
                 AND x.first_interval_no <= p.interval_no_to
                 AND x.last_interval_no > p.interval_no_from)
             AND p.interval_no_to - p.interval_no_from > (
                 SELECT count(*) FROM interval i WHERE i.account_id = p.account_id
                   AND i.interval_no > p.interval_no_from AND i.interval_no <= p.interval_no_to)""",
        [day, day, account_id, event_id],
    )
    return str(found[0][0] or "")


def _legs(account_id: int, event_id: int, kind: EntryKind, day: date, place: Place) -> list[_Leg]:
    found = rows(
        """SELECT seq, component, band, step, code, tax_rate_ppm, amount, energy_wh, service_from,
                  booked_at, corrects_seq
           FROM transfer
           WHERE account_id = %s AND event_id = %s AND kind = %s
             AND (service_from AT TIME ZONE %s)::date = %s
           ORDER BY seq""",
        [account_id, event_id, int(KINDS[kind]), place.time_zone, day],
    )
    return [_Leg(row[0], Component(row[1]), *row[2:]) for row in found]


#: The segments of a posting's range on a local day. Those inside an interval of which the range takes
#: back a part that was posted before are corrections, as posting itself has it. They are found once, not
#: anew for each row: a correction of weeks has thousands.
_SEGMENTS = """
WITH range AS (
    SELECT interval_no_from AS from_no, interval_no_to AS to_no FROM posting
    WHERE account_id = %(account)s AND event_id = %(event)s
), superseded AS MATERIALIZED (
    SELECT o.meter_id, o.register_code, o.start_at, max(o.to_at) AS end_at
    FROM range r
    JOIN interval t ON t.account_id = %(account)s AND t.interval_no > r.from_no
        AND t.interval_no <= r.to_no AND t.segment >= %(reversed)s
    JOIN interval o ON o.account_id = t.account_id AND o.meter_id = t.meter_id
        AND o.register_code = t.register_code AND o.start_at = t.start_at
        AND o.revision = t.revision - 1 AND o.segment = t.segment - %(reversed)s
        AND o.interval_no <= r.from_no
    GROUP BY o.meter_id, o.register_code, o.start_at
)
SELECT i.meter_id, i.from_at, i.to_at, i.start_value_wh, i.end_value_wh, i.tariff_version_id, i.band,
       i.step, i.price_nano, i.energy_wh, i.charge_energy, i.charge_fee + i.charge_tax,
       i.charge_tax, i.charge_subsidy, i.quality = %(estimated)s, i.segment >= %(reversed)s
FROM range r JOIN interval i ON i.account_id = %(account)s
    AND i.interval_no > r.from_no AND i.interval_no <= r.to_no
WHERE (i.from_at AT TIME ZONE %(zone)s)::date = %(day)s
  AND %(correction)s = EXISTS (
      SELECT FROM superseded s WHERE s.meter_id = i.meter_id
          AND s.register_code = i.register_code AND i.start_at >= s.start_at
          AND i.to_at <= s.end_at)
ORDER BY i.meter_id, i.segment >= %(reversed)s DESC, i.from_at, i.segment
"""


def _runs(account_id: int, event_id: int, kind: EntryKind, day: date, place: Place) -> list[Run]:
    """The segments of the charge, neighbours at one price joined, in order of time."""
    found = rows(
        _SEGMENTS,
        {
            "account": account_id,
            "event": event_id,
            "reversed": _REVERSED,
            "estimated": _ESTIMATED,
            "zone": place.time_zone,
            "day": day,
            "correction": kind is EntryKind.CORRECTION,
        },
    )
    runs: list[Run] = []
    for _alike, group in groupby(((row, _segment(row)) for row in found), key=_price_of):
        run: Run | None = None
        for _row, segment in group:
            if run is not None and run.until_at == segment.from_at:
                run = _joined(run, segment)
                runs[-1] = run
            else:
                run = segment
                runs.append(run)
    return runs


def _segment(row: tuple[Any, ...]) -> Run:
    (_meter, from_at, until_at, begin, end, version, band, step, price, energy_wh, energy, added, tax,
     subsidy, estimated, taken_back) = row  # fmt: skip
    return Run(
        from_at=from_at,
        until_at=until_at,
        begin_wh=begin,
        end_wh=end,
        segments=1,
        version_id=version,
        band=band,
        step=step,
        price_nano_per_kwh=price,
        energy_wh=energy_wh,
        energy_micro=energy,
        added_micro=added,
        subsidy_micro=subsidy,
        is_estimated=estimated,
        taken_back=taken_back,
        free=subsidy != 0 and subsidy == -(energy + tax),
    )


def _price_of(pair: tuple[tuple[Any, ...], Run]) -> tuple[Any, ...]:
    row, run = pair
    return (
        row[0], run.version_id, run.band, run.step, run.price_nano_per_kwh, run.is_estimated,
        run.taken_back, run.free,
    )  # fmt: skip


def _joined(run: Run, after: Run) -> Run:
    return replace(
        run,
        until_at=after.until_at,
        end_wh=after.end_wh,
        segments=run.segments + 1,
        energy_wh=run.energy_wh + after.energy_wh,
        energy_micro=run.energy_micro + after.energy_micro,
        added_micro=run.added_micro + after.added_micro,
        subsidy_micro=run.subsidy_micro + after.subsidy_micro,
    )


def _tariffs(account_id: int, at: datetime, version_ids: set[int]) -> dict[int, Tariff]:
    """The versions that the intervals name, and under 0 the one in force at an instant.

    The first version also holds before its start.
    """
    found = rows(
        f"""SELECT v.id, v.content, v.id = (
                      SELECT f.id FROM tariff_version f
                      WHERE f.tariff_id = (
                          SELECT s.tariff_id FROM tariff_assignment s
                          WHERE s.account_id = %(account)s AND {HOLDS}
                          ORDER BY s.valid_from <= %(at)s DESC,
                                   abs(extract(epoch FROM s.valid_from - %(at)s)) LIMIT 1)
                      ORDER BY f.valid_from <= %(at)s DESC,
                               abs(extract(epoch FROM f.valid_from - %(at)s)) LIMIT 1)
           FROM tariff_version v
           WHERE v.id = ANY(%(versions)s) OR v.tariff_id IN (
               SELECT tariff_id FROM tariff_assignment WHERE account_id = %(account)s)""",  # noqa: S608 - our own constants
        {"account": account_id, "at": at, "versions": sorted(version_ids)},
    )
    tariffs: dict[int, Tariff] = {}
    for version, content, in_force in found:
        if version in version_ids or in_force:
            tariff = parse_tariff(json.loads(content) if isinstance(content, str) else content)
            tariffs[version] = tariff
            if in_force:
                tariffs[0] = tariff
    return tariffs


def _peaks(account_id: int, day: date, legs: Sequence[_Leg]) -> dict[str, int]:
    """The highest power of the month so far, by the code of the demand charge."""
    if not any(leg.component is Component.DEMAND for leg in legs):
        return {}
    found = rows(
        """SELECT code, max(peak_w) FROM demand_day
           WHERE account_id = %s AND local_day BETWEEN %s AND %s GROUP BY code""",
        [account_id, day_number(day.replace(day=1)), day_number(day)],
    )
    return dict(found)


def _rebated(account_id: int, event_id: int, legs: Sequence[_Leg]) -> Rebated | None:
    """What the rebate among the legs was worked out from."""
    if not any(leg.component is Component.REBATE for leg in legs):
        return None
    found = rows(
        """SELECT r.outcome, e.from_at, coalesce(w.until_at, e.until_at), r.used_wh, r.usual_wh,
                  r.counted, r.days, r.rebate_nano
           FROM event_rebate r JOIN price_event e ON e.id = r.event_id
           LEFT JOIN price_event w ON w.withdraws_id = e.id
           WHERE r.account_id = %s AND r.transfer_event_id = %s""",
        [account_id, event_id],
    )
    if not found:
        return None
    outcome, from_at, until_at, used, usual, counted, days, nano = found[0]
    told = json.loads(days) if isinstance(days, str) else days
    return Rebated(
        outcome=Outcome(outcome),
        from_at=from_at,
        until_at=until_at,
        used_wh=used,
        usual_wh=usual // max(counted, 1),
        counted=counted,
        days=len(told),
        rebate_nano=nano,
    )


def _lines(
    legs: Iterable[_Leg],
    runs: Sequence[Run],
    tariffs: Mapping[int, Tariff],
    peaks: Mapping[str, int],
    rebated: Rebated | None,
) -> tuple[ChargeLine, ...]:
    """The transfers as lines, in the order of components; energy by band and step, with its price."""
    sums: defaultdict[tuple[Component, int, int, str, int], list[int]] = defaultdict(lambda: [0, 0])
    for leg in legs:
        own = sums[leg.component, leg.band, leg.step, leg.code, leg.tax_rate_ppm]
        own[0] += leg.amount
        own[1] += leg.energy_wh
    lines = []
    for (component, band, step, code, rate), (amount, energy_wh) in sums.items():
        alike = [run for run in runs if (run.band, run.step) == (band, step)]
        prices = (
            {run.price_nano_per_kwh for run in alike} if component is Component.ENERGY else set()
        )
        versions = {run.version_id for run in alike or runs}
        tariff = tariffs.get(next(iter(versions))) if len(versions) == 1 else tariffs.get(0)
        lines.append(
            ChargeLine(
                component=component,
                amount_micro=amount,
                tariff=tariff,
                band=band,
                step=step,
                code=code,
                energy_wh=energy_wh,
                price_nano_per_kwh=next(iter(prices)) if len(prices) == 1 else None,
                tax_rate_ppm=rate,
                peak_w=peaks.get(code) if component is Component.DEMAND else None,
                rebated=rebated if component is Component.REBATE else None,
            )
        )
    lines.sort(key=lambda line: (_ORDER.index(line.component), line.step, line.band, line.code))
    return tuple(lines)


#: In which a bill is read: what was used, what comes with it, what is given, what is taken on top.
_ORDER: Final = (
    Component.ENERGY,
    Component.STANDING,
    Component.DEMAND,
    Component.FEE,
    Component.MINIMUM,
    Component.MAXIMUM,
    Component.TAX,
    Component.SUBSIDY,
    Component.REBATE,
    Component.DEBT,
    Component.DEPOSIT,
)


def _adds_up(legs: Sequence[_Leg], runs: Sequence[Run]) -> bool | None:
    """Whether the readings come to exactly what the transfers say."""
    if not runs:
        return None
    return sum(run.total_micro for run in runs) == -sum(leg.amount for leg in legs)


def _corrected(
    account_id: int, legs: Sequence[_Leg], tariffs: Mapping[int, Tariff], place: Place
) -> tuple[Corrected, ...]:
    """The transfers that the legs name, with what they came to before this event."""
    difference: defaultdict[int, int] = defaultdict(int)
    for leg in legs:
        if leg.corrects_seq is not None:
            difference[leg.corrects_seq] += leg.amount
    if not difference:
        return ()
    found = rows(
        """SELECT t.seq, (t.service_from AT TIME ZONE %(zone)s)::date, t.component, t.band, t.step,
                  t.code, t.amount + coalesce((
                      SELECT sum(c.amount) FROM transfer c
                      WHERE c.account_id = t.account_id AND c.corrects_seq = t.seq
                        AND c.seq < %(first)s), 0)::bigint
           FROM transfer t WHERE t.account_id = %(account)s AND t.seq = ANY(%(seqs)s)
           ORDER BY t.seq""",
        {
            "zone": place.time_zone,
            "account": account_id,
            "first": legs[0].seq,
            "seqs": sorted(difference),
        },
    )
    return tuple(
        Corrected(
            seq=seq,
            day=day,
            component=Component(component),
            band=band,
            step=step,
            code=code,
            tariff=tariffs.get(0),
            before_micro=before,
            difference_micro=difference[seq],
        )
        for seq, day, component, band, step, code, before in found
    )
