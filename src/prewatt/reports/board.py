"""The board of Today, counted in the database by one statement, whatever the size of the property.

Every unit is looked at once; what comes back are counts by building and a few ids. The windows
themselves come along for a whole property of some hundreds of units, else for one building.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final

from prewatt.core.civil_time import utc_datetime
from prewatt.core.vocabulary import BoardState, DeliveryState, RelayState
from prewatt.notify.sentences import WARNINGS
from prewatt.reports.place import json_of, rows
from prewatt.reports.today import BoardUnit, Floor, House, Need, NeedKind
from prewatt.reports.units import FACADE, UNIT_NOW, looking_at_all

#: So many windows are shown at once; a property with more of them shows one building.
WINDOWS_MAX: Final = 600
#: *Runs out next* and the third figure look this far ahead.
SOON_HOURS: Final = 48
ENDINGS_MAX: Final = 8
FRESH_MINUTES: Final = 15
_SILENT_MAX, _TAMPERED_MAX = 3, 8

_FACADE = ", ".join(FACADE)
_BOARD = f"""
WITH unit_now AS MATERIALIZED (
    SELECT unit_id, code, floor, position, kind, building_position, building_id, building,
           account_id, vacant, meter_id, available, relay, tamper_since, reading_at, heard_at, silent,
           seconds_left, state, level_fired_at,
           coalesce(NOT vacant AND relay <> {RelayState.OPEN:d}
                    AND seconds_left < {SOON_HOURS * 3600}, false) AS soon
    FROM {UNIT_NOW} AS unit_now
), shown AS (
    SELECT count(*) <= %(windows)s AS whole, CASE WHEN count(*) > %(windows)s THEN coalesce(
               (SELECT min(building_id) FROM unit_now WHERE building_id = %(building)s),
               (SELECT building_id FROM unit_now ORDER BY state DESC, {_FACADE} LIMIT 1)) END AS here
    FROM unit_now
), windows AS (
    SELECT building_id, floor, unit_id, account_id, code, state, seconds_left
    FROM unit_now, shown
    WHERE whole OR building_id = here AND (%(after)s::bigint IS NULL OR ({_FACADE}) > (
        SELECT {_FACADE} FROM unit_now WHERE unit_id = %(after)s))
    ORDER BY {_FACADE} LIMIT %(windows)s + 1
), facts AS (
    SELECT (SELECT jsonb_agg(jsonb_build_array(building_id, floor, unit_id, account_id, code, state,
                seconds_left)) FROM windows) AS windows,
           (SELECT whole FROM shown) AS whole, (SELECT here FROM shown) AS here,
           ARRAY(SELECT unit_id FROM unit_now WHERE soon ORDER BY seconds_left, unit_id
                 LIMIT {ENDINGS_MAX}) AS endings,
           (SELECT count(*) FROM unit_now n WHERE soon AND EXISTS (
                SELECT FROM message m
                WHERE m.account_id = n.account_id AND m.created_at >= n.level_fired_at
                  AND m.code = ANY(%(warnings)s) AND NOT m.would_have
                  AND m.state = {DeliveryState.DELIVERED:d})) AS warned,
           (SELECT jsonb_agg(jsonb_build_array(unit_id, meter_id, tamper_us)) FROM (
                SELECT unit_id, meter_id,
                       (extract(epoch FROM tamper_since) * 1000000)::bigint AS tamper_us
                FROM unit_now WHERE tamper_since IS NOT NULL
                ORDER BY {_FACADE} LIMIT {_TAMPERED_MAX}) AS tampered) AS tampered
)
SELECT building_id, building, kind, state, floor, count(*), count(meter_id),
       count(*) FILTER (WHERE meter_id IS NOT NULL AND reading_at >= %(fresh)s),
       count(*) FILTER (WHERE relay = {RelayState.OPEN:d}), count(*) FILTER (WHERE vacant),
       count(*) FILTER (WHERE soon),
       coalesce(sum(greatest(0, available)) FILTER (WHERE NOT vacant), 0),
       count(*) FILTER (WHERE silent), min(heard_at) FILTER (WHERE silent),
       min(unit_id) FILTER (WHERE silent),
       CASE WHEN grouping(building_id) = 1 THEN (SELECT to_jsonb(facts) FROM facts) END
FROM unit_now
GROUP BY GROUPING SETS ((), (building_position, building_id, building, kind),
    (building_position, building_id, building, state), (building_position, building_id, building, floor))
ORDER BY building_position, building_id, floor DESC, count(*) DESC, kind
"""  # noqa: S608 - our own expressions


@dataclass(frozen=True, slots=True)
class Board:
    """What the statement counted. ``endings`` are the units that run out first, by their ids.

    ``whole`` says that every unit has its window here; ``silent`` and ``tampered`` have no names yet.
    """

    houses: tuple[House, ...]
    whole: bool
    units: int
    meters: int
    meters_fresh: int
    cut: int
    vacant: int
    soon: int
    soon_warned: int
    held_micro: int
    endings: tuple[int, ...]
    silent: tuple[Need, ...]
    tampered: tuple[Need, ...]


def read_board(
    property_id: int, now: datetime, *, building: int | None = None, after: int | None = None
) -> Board:
    """The board inside the caller's scope; for ``building`` and ``after`` see `today_query.today`."""
    with looking_at_all():
        found = rows(
            _BOARD,
            {
                "property": property_id,
                "now": now,
                "fresh": now - timedelta(minutes=FRESH_MINUTES),
                "building": building,
                "after": after,
                "windows": WINDOWS_MAX,
                "warnings": list(WARNINGS),
            },
        )
    (whole,) = (row for row in found if row[0] is None)
    facts = json_of(whole[15])
    units, meters, fresh, cut, vacant, soon, held = whole[5:12]
    return Board(
        houses=_houses(found, facts),
        whole=facts["whole"],
        units=units,
        meters=meters,
        meters_fresh=fresh,
        cut=cut,
        vacant=vacant,
        soon=soon,
        soon_warned=facts["warned"],
        held_micro=int(held),
        endings=tuple(facts["endings"]),
        silent=_silent(found, now),
        tampered=tuple(
            Need(f"tamper-{meter}", NeedKind.TAMPER, utc_datetime(us), unit_id=unit)
            for unit, meter, us in facts["tampered"] or ()
        ),
    )


def _houses(found: list[tuple[Any, ...]], facts: dict[str, Any]) -> tuple[House, ...]:
    """The buildings in their order, each with its counts and, where they are shown, its windows."""
    names: dict[int, str] = {}
    kinds: defaultdict[int, Counter[str]] = defaultdict(Counter)
    states: defaultdict[int, Counter[BoardState]] = defaultdict(Counter)
    widest: Counter[int] = Counter()
    for building_id, name, kind, state, floor, count, *_ in found:
        if building_id is None:
            continue
        names[building_id] = name
        if kind is not None:
            kinds[building_id][kind] = count
        elif state is not None:
            states[building_id][BoardState(state)] = count
        elif floor is not None:
            widest[building_id] = max(widest[building_id], count)
    shown = (facts["windows"] or [])[:WINDOWS_MAX]
    is_cut_off = len(facts["windows"] or ()) > WINDOWS_MAX
    windows = {
        building_id: list(inside)
        for building_id, inside in groupby(shown, key=lambda row: int(row[0]))
    }
    return tuple(
        House(
            building_id,
            name,
            tuple(kinds[building_id].most_common()),
            tuple(states[building_id].items()),
            _floors(windows.get(building_id, [])),
            widest[building_id],
            is_open=facts["whole"] or building_id == facts["here"],
            is_cut_off=is_cut_off,
        )
        for building_id, name in names.items()
    )


def _floors(windows: list[Any]) -> tuple[Floor, ...]:
    return tuple(
        Floor(
            floor,
            tuple(
                BoardUnit(
                    unit_id,
                    account_id,
                    code,
                    BoardState(state),
                    None if seconds is None else seconds // 3_600,
                )
                for _, _, unit_id, account_id, code, state, seconds in storey
            ),
        )
        for floor, storey in groupby(windows, key=lambda row: int(row[1]))
    )


def _silent(found: list[tuple[Any, ...]], now: datetime) -> tuple[Need, ...]:
    """Silent meters, one line for each floor they share: a floor that falls silent has one cause."""
    needs = []
    for building_id, building, _kind, _state, floor, *counts in found:
        silent, since, unit_id = counts[7:10]
        if building_id is None or floor is None or not silent:
            continue
        one = silent == 1
        needs.append(
            Need(
                f"silent-{building_id}-{floor}",
                NeedKind.SILENT,
                since or now,
                place=building,
                floor=None if one else floor,
                count=silent,
                unit_id=unit_id if one else None,
            )
        )
    return tuple(needs[:_SILENT_MAX])
