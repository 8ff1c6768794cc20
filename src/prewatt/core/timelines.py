"""A tariff laid over time: at which instants something about the price changes, and what holds.

`compile_timeline` lays one tariff version over a calendar and a UTC range; `splice` joins the
versions that one account has in the range, `TimelineSet.of` joins all timelines of one batch. All
that rating needs of a tariff is in their tables, so that no tariff is looked at row by row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from prewatt.core.bounds import Int64, OverflowRefused
from prewatt.core.civil_time import DAY_US, MINUTE_US, LocalCalendar, day_date
from prewatt.core.steps import (
    NO_LIMIT,
    Countings,
    CountKind,
    count_columns,
    count_kind,
    lay_countings,
)
from prewatt.core.tariff import BandTable, Tariff, band_table
from prewatt.core.tariff.model import Overlay, OverlayKind, Taxable
from prewatt.core.taxes import EffectiveTax, effective_tax, tax_change_days
from prewatt.core.windows import grid_position

Int8 = npt.NDArray[np.int8]
Int16 = npt.NDArray[np.int16]
Int32 = npt.NDArray[np.int32]
Index = npt.NDArray[np.integer]

# Looking up a price is one division and two gathers: a table says which segment holds at the
# start of each quarter-hour, and only tariffs with edges inside a quarter-hour need another step.
_BUCKET_US: Final = 15 * MINUTE_US
_PPM: Final = 10**6
_PPB_PER_PPM: Final = 1000


@dataclass(frozen=True, slots=True)
class PriceEvent:
    """What was announced to a group for [from_us, until_us): a critical peak, or one price of a
    real-time series. `price_nano_per_kwh` is the series' price; a critical peak's is in the tariff.
    """

    kind: OverlayKind
    group: str
    from_us: int
    until_us: int
    price_nano_per_kwh: int = 0


@dataclass(frozen=True, slots=True)
class PriceRules:
    """What usage costs, one row for each set of prices and taxes that holds somewhere.

    `price_nano_per_kwh[row, step]` is net of inclusive taxes, as are the fees: `fee_nano_per_kwh`
    on energy, `fee_share_ppb` on its charge. `energy_tax_ppb` and `fee_tax_ppb` are effective
    shares of what is charged. `count_column` is the count that the energy goes to, and
    `book[row]` the row of `book_price[book, column, step]`, what each count's energy costs, by
    which a whole-usage tariff reprices it.
    """

    price_nano_per_kwh: Int64
    energy_tax_ppb: Int64
    fee_nano_per_kwh: Int64
    fee_share_ppb: Int64
    fee_tax_ppb: Int64
    rebate_nano_per_kwh: Int64
    count_column: Int64
    book: Int64
    book_price: Int64


@dataclass(frozen=True, slots=True)
class PriceTimeline:
    """One tariff version laid over one calendar.

    Segment i is [edge_at_us[i], edge_at_us[i + 1]), the last one ends at `until_at_us`. Columns
    of one length ≥ 1: `band` is the position in `Tariff.bands`, `local_day` the day number (days
    since 1970-01-01), `version_id` the caller's id of the tariff version, `rule` and `counting`
    rows of the tables. `columns` is how many step counts an account needs.
    """

    edge_at_us: Int64
    until_at_us: int
    band: Int16
    local_day: Int32
    version_id: Int64
    rule: Int64
    counting: Int64
    rules: PriceRules
    countings: Countings
    columns: int

    @property
    def price_nano_per_kwh(self) -> Int64:
        """The net price of each segment's first step."""
        return self.rules.price_nano_per_kwh[:, 0][self.rule]


def compile_timeline(
    tariff: Tariff,
    calendar: LocalCalendar,
    from_us: int,
    to_us: int,
    *,
    version_id: int = 0,
    exempt: frozenset[str] = frozenset(),
    events: Sequence[PriceEvent] = (),
    counts_from_us: int = 0,
) -> PriceTimeline:
    """The timeline of a tariff in [from_us, to_us), with an edge at every band change, local
    midnight, and begin or end of an announced price.

    `exempt` are codes of taxes that the account does not pay. `events` are what was announced to
    the account's groups; the tariff's overlays pick theirs by kind and group, a later one of the
    sequence holding over an earlier. A real-time price comes before a critical peak, whose adder
    is on top of it. `counts_from_us` is the version's own start where it counts otherwise than the
    version before (`steps.counts_go_on`): no step window begins before it.

    Costs about a millisecond per year, a few more the first time a zone is used, and half a
    millisecond per day of announced quarter-hours: compile once per tariff epoch, not once per
    batch. Raises `CivilTimeRefused` outside 1971–2199,
    `OverflowRefused` for prices or limits beyond 64 bits.
    """
    if from_us >= to_us:
        raise ValueError("a timeline needs from_us < to_us")
    table = band_table(tariff)
    overlays = _chosen(tariff.overlays, events)
    edges = calendar.wall_edges(from_us, to_us, table.breakpoints)
    edges = _with_event_edges(edges, overlays, from_us, to_us)
    local_day = calendar.local_day(edges)
    marks = np.column_stack([_band_at(table, calendar, edges), *_event_at(edges, overlays)])
    changes = np.ones(edges.size, dtype=np.bool_)
    changes[1:] = (marks[1:] != marks[:-1]).any(axis=1) | (local_day[1:] != local_day[:-1])
    marks, local_day = marks[changes], local_day[changes]
    rule, rules = _lay_rules(tariff, overlays, exempt, marks, local_day)
    counting, countings = lay_countings(tariff, calendar, local_day, counts_from_us)
    return PriceTimeline(
        edge_at_us=edges[changes],
        until_at_us=to_us,
        band=marks[:, 0].astype(np.int16),
        local_day=local_day.astype(np.int32),
        version_id=np.full(local_day.size, version_id, dtype=np.int64),
        rule=rule,
        counting=counting,
        rules=rules,
        countings=countings,
        columns=count_columns(tariff),
    )


def splice(parts: Sequence[tuple[int, PriceTimeline]]) -> PriceTimeline:
    """One timeline out of several, for an account whose tariff version changes inside the range.

    Each part `(from_us, timeline)` holds from its instant until the next part's, the last until
    its own end. Instants strictly increase, and each timeline must cover the stretch it holds
    for: `ValueError` otherwise.
    """
    last = parts[-1][1]
    bounds = [begin for begin, _ in parts] + [last.until_at_us]
    edges, slices = [], []
    for (begin, end), (_, timeline) in zip(pairwise(bounds), parts, strict=True):
        if not timeline.edge_at_us[0] <= begin < end <= timeline.until_at_us:
            raise ValueError(f"a timeline does not cover its stretch {begin}–{end}")
        first = int(np.searchsorted(timeline.edge_at_us, begin, side="right")) - 1
        stop = int(np.searchsorted(timeline.edge_at_us, end, side="left"))
        edges.append(timeline.edge_at_us[first:stop].copy())
        edges[-1][0] = begin
        slices.append(slice(first, stop))
    held = [(timeline, part) for (_, timeline), part in zip(parts, slices, strict=True)]
    rules, rule_base = _stacked_rules([timeline.rules for timeline, _ in held])
    countings, counting_base = _stacked_countings([timeline.countings for timeline, _ in held])
    counting = _joined(
        timeline.counting[part] + base
        for (timeline, part), base in zip(held, counting_base, strict=True)
    )
    return PriceTimeline(
        edge_at_us=np.concatenate(edges),
        until_at_us=last.until_at_us,
        band=_joined(timeline.band[part] for timeline, part in held),
        local_day=_joined(timeline.local_day[part] for timeline, part in held),
        version_id=_joined(timeline.version_id[part] for timeline, part in held),
        rule=_joined(
            timeline.rule[part] + base
            for (timeline, part), base in zip(held, rule_base, strict=True)
        ),
        counting=counting,
        rules=rules,
        countings=_never_backwards(countings, counting),
        columns=max(timeline.columns for timeline, _ in held),
    )


@dataclass(frozen=True, slots=True, eq=False)
class TimelineSet:
    """The timelines of one batch, joined; a row's `timeline_index` is a position in the sequence
    given to `of`. Build it once per tariff epoch and reuse it: it is immutable.

    `segment_*` are the joined columns, with the end of each segment; `bucket_*` the look-up
    tables. `price_nano_per_kwh` is each segment's net price at the first step, `columns` how many
    step counts an account needs at most.
    """

    segment_start_us: Int64
    segment_end_us: Int64
    band: Int16
    price_nano_per_kwh: Int64
    local_day: Int32
    version_id: Int64
    rule: Int64
    counting: Int64
    rules: PriceRules
    countings: Countings
    columns: int
    from_us: Int64
    until_us: Int64
    bucket_base: Int64
    bucket_segment: Int64
    extra_steps: int

    @classmethod
    def of(cls, timelines: Sequence[PriceTimeline]) -> TimelineSet:
        """Join at least one timeline."""
        sizes = [each.edge_at_us.size for each in timelines]
        first_segment = np.cumsum([0, *sizes[:-1]])
        buckets, steps = [], []
        for timeline, offset in zip(timelines, first_segment.tolist(), strict=True):
            edges = timeline.edge_at_us
            starts = np.arange(int(edges[0]), timeline.until_at_us, _BUCKET_US, dtype=np.int64)
            at_start = np.searchsorted(edges, starts, side="right") - 1
            at_end = np.searchsorted(edges, starts + _BUCKET_US, side="left") - 1
            buckets.append(at_start + offset)
            steps.append(int((at_end - at_start).max()))
        rules, rule_base = _stacked_rules([each.rules for each in timelines])
        countings, counting_base = _stacked_countings([each.countings for each in timelines])
        return cls(
            segment_start_us=_joined(each.edge_at_us for each in timelines),
            segment_end_us=_joined(
                np.append(each.edge_at_us[1:], each.until_at_us) for each in timelines
            ),
            band=_joined(each.band for each in timelines),
            price_nano_per_kwh=_joined(each.price_nano_per_kwh for each in timelines),
            local_day=_joined(each.local_day for each in timelines),
            version_id=_joined(each.version_id for each in timelines),
            rule=_joined(each.rule + base for each, base in zip(timelines, rule_base, strict=True)),
            counting=_joined(
                each.counting + base for each, base in zip(timelines, counting_base, strict=True)
            ),
            rules=rules,
            countings=countings,
            columns=max(each.columns for each in timelines),
            from_us=np.array([each.edge_at_us[0] for each in timelines], dtype=np.int64),
            until_us=np.array([each.until_at_us for each in timelines], dtype=np.int64),
            bucket_base=np.cumsum([0, *(part.size for part in buckets[:-1])]).astype(np.int64),
            bucket_segment=_joined(buckets).astype(np.int64),
            extra_steps=max(steps),
        )

    def segment_at(self, at_us: Int64, timeline_index: Index) -> Int64:
        """The joined segment that contains each instant; instants must lie inside their
        timelines.
        """
        if self.from_us.size == 1:
            bucket = (at_us - self.from_us[0]) // _BUCKET_US
        else:
            bucket = (at_us - self.from_us[timeline_index]) // _BUCKET_US + self.bucket_base[
                timeline_index
            ]
        segment: Int64 = self.bucket_segment[bucket]
        for _ in range(self.extra_steps):
            segment += at_us >= self.segment_end_us[segment]
        return segment


def _chosen(
    overlays: Sequence[Overlay], events: Sequence[PriceEvent]
) -> list[tuple[Overlay, list[PriceEvent]]]:
    """Each overlay with its events, real-time prices first."""
    ordered = sorted(overlays, key=lambda each: each.kind is OverlayKind.CRITICAL_PEAK)
    return [
        (
            overlay,
            [each for each in events if (each.kind, each.group) == (overlay.kind, overlay.group)],
        )
        for overlay in ordered
    ]


def _with_event_edges(
    edges: Int64, overlays: list[tuple[Overlay, list[PriceEvent]]], from_us: int, to_us: int
) -> Int64:
    bounds = {at for _, own in overlays for each in own for at in (each.from_us, each.until_us)}
    inside = [at for at in bounds if from_us < at < to_us]
    return np.union1d(edges, np.array(inside, dtype=np.int64)) if inside else edges


def _event_at(edges: Int64, overlays: list[tuple[Overlay, list[PriceEvent]]]) -> Iterable[Int64]:
    """For each overlay, the position of the event that holds at each edge, or -1."""
    for _, own in overlays:
        holding = np.full(edges.size, -1, dtype=np.int64)
        for position, event in enumerate(own):
            begin, end = np.searchsorted(edges, (event.from_us, event.until_us))
            holding[begin:end] = position
        yield holding


def _lay_rules(
    tariff: Tariff,
    overlays: list[tuple[Overlay, list[PriceEvent]]],
    exempt: frozenset[str],
    marks: Int64,
    local_day: Int64,
) -> tuple[Int64, PriceRules]:
    """(row of the rules for each segment, the rules): one for each set of taxes, band and
    announced price that occurs. `marks` are the band and an event for each overlay.
    """
    changes = np.array(tax_change_days(tariff.taxes), dtype=np.int64)
    period, period_of = np.unique(
        np.searchsorted(changes, local_day, side="right"), return_inverse=True
    )
    pricings = [
        _pricing(tariff, int(local_day[period_of == each][0]), exempt)
        for each in range(period.size)
    ]
    sizes = (period.size, len(tariff.bands), *(len(own) + 1 for _, own in overlays))
    keys, rule = np.unique(
        np.ravel_multi_index((period_of, marks[:, 0], *(marks[:, 1:].T + 1)), sizes),
        return_inverse=True,
    )
    where, band, *events = (column.tolist() for column in np.unravel_index(keys, sizes))
    prices, columns = [], []
    for position, (at, of_band) in enumerate(zip(where, band, strict=True)):
        announced = [
            (overlay, own[holding[position] - 1])
            for (overlay, own), holding in zip(overlays, events, strict=True)
            if holding[position]
        ]
        price, is_own = _announced_price(pricings[at].gross[of_band], announced)
        prices.append([pricings[at].energy.net_nano(each) for each in price])
        columns.append(_count_column(tariff, of_band, is_own))
    taxed = [pricings[at] for at in where]
    return rule, PriceRules(
        price_nano_per_kwh=_int64(prices),
        energy_tax_ppb=_int64([each.energy.share_ppb for each in taxed]),
        fee_nano_per_kwh=_int64([each.fee_nano_per_kwh for each in taxed]),
        fee_share_ppb=_int64([each.fee_share_ppb for each in taxed]),
        fee_tax_ppb=_int64([each.fee.share_ppb for each in taxed]),
        rebate_nano_per_kwh=np.full(
            keys.size, sum(a.rebate_nano_per_kwh for a in tariff.allowances), dtype=np.int64
        ),
        count_column=_int64(columns),
        book=_int64(where),
        book_price=_int64([_book(tariff, each) for each in pricings]),
    )


@dataclass(frozen=True, slots=True)
class _Pricing:
    """The prices of all bands as written, one for each step, with the taxes of some days."""

    gross: list[list[int]]
    energy: EffectiveTax
    fee: EffectiveTax
    fee_nano_per_kwh: int
    fee_share_ppb: int


def _pricing(tariff: Tariff, local_day: int, exempt: frozenset[str]) -> _Pricing:
    day = day_date(local_day)
    fee = effective_tax(tariff.taxes, Taxable.FEE, day, exempt)
    width = _step_count(tariff)
    return _Pricing(
        gross=[
            [*each.prices_nano_per_kwh]
            + [each.prices_nano_per_kwh[-1]] * (width - len(each.prices_nano_per_kwh))
            for each in tariff.bands
        ],
        energy=effective_tax(tariff.taxes, Taxable.ENERGY, day, exempt),
        fee=fee,
        fee_nano_per_kwh=sum(fee.net_nano(each.nano_per_kwh) for each in tariff.usage_fees),
        fee_share_ppb=sum(
            fee.net_nano(each.share_ppm * _PPB_PER_PPM) for each in tariff.usage_fees
        ),
    )


def _step_count(tariff: Tariff) -> int:
    """The most steps that any count of a tariff has, or prices that any band has."""
    limits = [*(tariff.steps.limits_wh if tariff.steps else ())]
    limits += [band.limits_wh for band in tariff.bands]
    prices = max(len(band.prices_nano_per_kwh) for band in tariff.bands)
    return max(prices, 1 + max((len(each) for each in limits), default=0))


def _announced_price(
    band_price: list[int], announced: list[tuple[Overlay, PriceEvent]]
) -> tuple[list[int], bool]:
    """(the price of each step as written under announcements, whether it is their own)."""
    price, is_own = band_price, False
    for overlay, event in announced:
        if overlay.kind is OverlayKind.REAL_TIME:
            series = round(Fraction(event.price_nano_per_kwh * overlay.share_ppm, _PPM))
            price, is_own = [series + overlay.adder_nano_per_kwh] * len(price), True
        elif overlay.price_nano_per_kwh is not None:
            price, is_own = [overlay.price_nano_per_kwh] * len(price), True
        else:
            price = [each + overlay.adder_nano_per_kwh for each in price]
    return price, is_own


def _count_column(tariff: Tariff, band: int, is_own: bool) -> int:
    """Which of an account's counts energy goes to."""
    if count_kind(tariff) in (CountKind.NONE, CountKind.GRADUATED_ALL):
        return 0
    return len(tariff.bands) if is_own else band


def _book(tariff: Tariff, pricing: _Pricing) -> list[list[int]]:
    """The net price of each count's energy at each step; an announced price is not repriced."""
    prices = [[pricing.energy.net_nano(price) for price in band] for band in pricing.gross]
    return prices + [[0] * len(prices[0])] * (count_columns(tariff) - len(prices))


def _band_at(table: BandTable, calendar: LocalCalendar, at_us: Int64) -> Int64:
    """The band that holds at each instant, by season, day kind and minute of the wall clock."""
    wall = calendar.wall_us(at_us)
    day = wall // DAY_US
    season = table.season_of_day[grid_position(day)]
    day_class = table.class_of_kind[calendar.day_kind_of(day)]
    # -1: this tariff has no class for holidays, so they count as their weekday (1970-01-01:
    # Thursday).
    day_class = np.where(day_class < 0, table.class_of_kind[(day + 3) % 7], day_class)
    return table.band[season, day_class, wall % DAY_US // MINUTE_US].astype(np.int64)


def _stacked_rules(tables: Sequence[PriceRules]) -> tuple[PriceRules, list[int]]:
    """(one table, where each of the given begins in it), with as many steps as the longest."""
    steps = max(each.price_nano_per_kwh.shape[1] for each in tables)
    counts = max(each.book_price.shape[1] for each in tables)
    books = _bases([each.book_price for each in tables])
    return PriceRules(
        price_nano_per_kwh=_joined(
            _last_repeated(each.price_nano_per_kwh, steps) for each in tables
        ),
        energy_tax_ppb=_joined(each.energy_tax_ppb for each in tables),
        fee_nano_per_kwh=_joined(each.fee_nano_per_kwh for each in tables),
        fee_share_ppb=_joined(each.fee_share_ppb for each in tables),
        fee_tax_ppb=_joined(each.fee_tax_ppb for each in tables),
        rebate_nano_per_kwh=_joined(each.rebate_nano_per_kwh for each in tables),
        count_column=_joined(each.count_column for each in tables),
        book=_joined(each.book + base for each, base in zip(tables, books, strict=True)),
        book_price=_joined(
            _filled(_last_repeated(each.book_price, steps), (counts, steps), 0) for each in tables
        ),
    ), _bases([each.book for each in tables])


def _stacked_countings(tables: Sequence[Countings]) -> tuple[Countings, list[int]]:
    """(one table, where each of the given begins in it), with as many limits as the longest."""
    lanes = max(each.limits_wh.shape[1] for each in tables)
    limits = max(each.limits_wh.shape[2] for each in tables)
    return Countings(
        kind=_joined(each.kind for each in tables),
        step_window=_joined(each.step_window for each in tables),
        limits_wh=_joined(_filled(each.limits_wh, (lanes, limits), NO_LIMIT) for each in tables),
        scale=_joined(each.scale for each in tables),
        add_wh=_joined(_filled(each.add_wh, (limits,), 0) for each in tables),
        members_included=_joined(each.members_included for each in tables),
        free_wh=_joined(each.free_wh for each in tables),
        allowance_window=_joined(each.allowance_window for each in tables),
    ), _bases([each.kind for each in tables])


def _never_backwards(countings: Countings, used: Int64) -> Countings:
    """The rules of a spliced timeline: a later version's window that began before the one that was
    being counted goes on with its count.
    """
    return replace(
        countings,
        step_window=_latest_of(countings.step_window, used),
        allowance_window=_latest_of(countings.allowance_window, used),
    )


def _latest_of(window: Int64, used: Int64) -> Int64:
    latest = window.copy()
    dated = used[window[used] > 0]
    latest[dated] = np.maximum.accumulate(window[dated])
    return latest


def _bases(tables: Sequence[npt.NDArray[np.generic]]) -> list[int]:
    return [0, *accumulate(len(each) for each in tables[:-1])]


def _last_repeated(table: Int64, length: int) -> Int64:
    """The table with its last axis made as long by repeating the last value."""
    widths = [(0, 0)] * (table.ndim - 1) + [(0, length - table.shape[-1])]
    return np.pad(table, widths, mode="edge")


def _filled(table: Int64, shape: tuple[int, ...], value: int) -> Int64:
    """The table with all axes but the first made as long with a value."""
    result = np.full((len(table), *shape), value, dtype=np.int64)
    result[(slice(None), *(slice(size) for size in table.shape[1:]))] = table
    return result


_Column = TypeVar("_Column", Int8, Int16, Int32, Int64)


def _joined(columns: Iterable[_Column]) -> _Column:
    return np.concatenate(list(columns))


def _int64(values: object) -> Int64:
    try:
        return np.array(values, dtype=np.int64)
    except OverflowError as error:
        raise OverflowRefused("a price") from error
