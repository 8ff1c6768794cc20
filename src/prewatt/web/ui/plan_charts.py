"""Pictures of a tariff: the week in prices, the steps as stairs, a trial's effect on accounts.

Made as the other charts are (``charts``). A band is one hue in three steps, dearer = stronger; bands
that share a step are told apart by a line through them, and every band is named beside its picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from prewatt.core.money import format_price
from prewatt.core.tariff import Tariff
from prewatt.core.trial import Bin
from prewatt.reports.tariff_picture import (
    BandTone,
    Cell,
    SeasonStairs,
    SeasonWeek,
    Stair,
    WeekRow,
    price_at,
    weeks_of,
)
from prewatt.web.ui import format as fmt
from prewatt.web.ui import plan
from prewatt.web.ui.charts import figure, line, rect, text

DAY: Final = 1440
#: The week: where its cells begin, how wide a day is, how high a row.
_WEEK_LEFT, _WEEK_WIDTH, _ROW = 46.0, 310.0, 25.0
_HOURS_SHOWN: Final = 8
#: The stairs' drawing area.
_LEFT, _RIGHT, _TOP, _FLOOR = 50.0, 392.0, 26.0, 196.0
#: How wide a digit of a price is drawn.
_LETTER: Final = 7.0
_LIMIT_APART: Final = 76.0


@dataclass(frozen=True, slots=True)
class Changed:
    """Hours of a kind of day that lie in another band than before (both by name)."""

    kind: int
    from_minute: int
    until_minute: int
    before: str
    after: str


def week_chart(
    tariff: Tariff, week: SeasonWeek, lang: str, name: str, changed: Sequence[Changed] = ()
) -> SafeString:
    """A season's week as a heat map, a row for each day and a cell for each hour or part of one."""
    marks: list[str] = []
    row_of: dict[int, float] = {}
    for number, row in enumerate(week.rows):
        y = number * _ROW
        row_of[row.kind] = y
        marks.append(text("", 0, y + 17, _kind_name(row.kind, lang)))
        marks += _hour_cells(row, week, y)
    height = len(week.rows) * _ROW
    marks += [
        rect("changed", x - 1.5, y - 1.5, width + 2, rows * _ROW + 1, "3")
        for x, y, width, rows in _outlines(changed, row_of)
    ]
    marks += _hour_names(week, height)
    title = _("Price by hour of the week")
    desc = "; ".join(
        f"{band}: {price}, {hours}" for band, price, hours in band_lines(tariff, week, lang)
    )
    total = height + 24
    if changed:
        marks.append(text("end em", _WEEK_LEFT + _WEEK_WIDTH, height + 40, changed_text(changed)))
        total += 22
    return figure(
        marks,
        name=f"week-{name}",
        width=int(_WEEK_LEFT + _WEEK_WIDTH) + 4,
        height=int(total),
        title=title,
        desc=desc,
    )


def band_lines(tariff: Tariff, week: SeasonWeek, lang: str) -> list[tuple[str, str, str]]:
    """(name, price of the first step, hours) of a season's bands, the dearest first."""
    names = plan.band_names(tariff)
    return [
        (
            names[tone.band],
            format_price(price_at(tariff, tone.band, 0), currency=tariff.currency),
            plan.hours_text(tariff, week.season, tone.band, lang),
        )
        for tone in week.bands
    ]


def changed_hours(before: Tariff, after: Tariff, season: int) -> tuple[Changed, ...]:
    """Where a season's hours differ between two versions that have this season on the same days."""
    own = after.seasons[season]
    same = [at for at, each in enumerate(before.seasons) if each.ranges == own.ranges]
    if not same:
        return ()
    old = {row.kind: row for row in weeks_of(before)[same[0]].rows}
    found: list[Changed] = []
    for row in weeks_of(after)[season].rows:
        if row.kind in old:
            found += _changed_in_row(before, after, old[row.kind], row)
    return tuple(found)


def changed_text(changed: Sequence[Changed]) -> str:
    """What the outline in the week means."""
    pairs = {(each.before, each.after) for each in changed}
    if len(pairs) == 1:
        before, after = next(iter(pairs))
        return _("Outlined: %(before)s before, %(after)s now") % {"before": before, "after": after}
    return _("Outlined: another price band than before")


def swatch(tone: BandTone) -> SafeString:
    """A band's colour and mark, for a legend or a table."""
    marks = rect(f"b{tone.tone}", 0.4, 0.4, 11.2, 11.2, "2") + "".join(_mark(tone, 0, 0, 12, 12))
    return SafeString(f'<svg viewBox="0 0 12 12" aria-hidden="true">{marks}</svg>')


def stairs_chart(tariff: Tariff, stairs: SeasonStairs, lang: str, name: str) -> SafeString:
    """Energy used in a window to the right, price upwards, one line of treads for each band."""
    scale = _StairScale(tariff, stairs)
    marks = [line("axis", _LEFT, _FLOOR, _RIGHT, _FLOOR)]
    for nano in scale.ticks:
        y = scale.y(nano)
        marks.append(line("grid", _LEFT, y, _RIGHT, y))
        marks.append(
            text("end", _LEFT - 8, y + 4, format_price(nano, currency=tariff.currency, digits=2))
        )
    marks += _limit_marks(scale, stairs, lang)
    for stair in stairs.stairs:
        marks += _stair_marks(scale, stair)
    marks += _price_names(tariff, scale, stairs)
    marks.append(text("", 0, 12, _("per kWh")))
    return figure(
        marks,
        name=f"stairs-{name}",
        width=400,
        height=228,
        title=_("Price of the next kilowatt-hour by what was used before it"),
        desc="; ".join(_stair_text(tariff, stair, lang) for stair in stairs.stairs),
    )


def effect_chart(bins: Sequence[Bin], lang: str) -> SafeString:
    """How many accounts pay how much more or less, in per cent of what they paid."""
    width, floor, room = 790.0, 150.0, 128.0
    step = width / max(len(bins), 1)
    most = max((each.accounts for each in bins), default=0) or 1
    marks: list[str] = []
    for number, each in enumerate(bins):
        x, size = number * step, room * each.accounts / most
        if each.accounts:
            marks.append(
                rect(_bin_css(each), x + 2, floor - max(size, 2), step - 4, max(size, 2), "2")
            )
        marks.append(text("mid em", x + step / 2, floor - max(size, 2) - 6, f"{each.accounts:,}"))
        marks.append(text("mid", x + step / 2, floor + 18, bin_name(each)))
    marks.append(line("axis", 0, floor + 0.5, width, floor + 0.5))
    marks.append(text("", 0, floor + 40, _("pay less, in per cent of what they paid")))
    marks.append(text("end", width, floor + 40, _("pay more")))
    return figure(
        marks,
        name="effect",
        width=int(width),
        height=196,
        title=_("Accounts by how much their charge changes"),
        desc=fmt.listed((f"{bin_name(each)} %: {each.accounts}" for each in bins), lang),
    )


def bin_name(each: Bin) -> str:
    """`−20 to −10`, `±1`, `over +20`: a column's limits in per cent."""
    begin, end = each.from_ppm, each.until_ppm
    if begin is None and end is not None:
        return _("under %(limit)s") % {"limit": _points(end)}
    if end is None and begin is not None:
        return _("over %(limit)s") % {"limit": _points(begin)}
    if begin is None or end is None:
        return ""
    if begin == -end:
        return f"±{_points(end).lstrip('+')}"
    return f"{_points(begin)} … {_points(end)}"


def _points(ppm: int) -> str:
    return fmt.percent(ppm, signed=True).replace(".0", "").removesuffix(" %")


def _bin_css(each: Bin) -> str:
    if each.until_ppm is not None and each.until_ppm <= 0:
        return "fill-less"
    return "fill-more" if each.from_ppm is not None and each.from_ppm >= 0 else "fill-same"


def _kind_name(kind: int, lang: str) -> str:
    return _("Holiday") if kind == 7 else fmt.weekdays([kind], lang)


def _x(minute: int) -> float:
    return _WEEK_LEFT + _WEEK_WIDTH * minute / DAY


def _hour_cells(row: WeekRow, week: SeasonWeek, y: float) -> Iterator[str]:
    """Cells of an hour each; one in which the band changes is divided at that minute."""
    for cell in row.cells:
        tone = week.tone_of(cell.band)
        for begin, end in _hours_within(cell):
            x, width = _x(begin), _x(end) - _x(begin) - 1.5
            yield rect(f"b{tone.tone}", x, y, width, _ROW - 1.5, "2")
            yield from _mark(tone, x, y, width, _ROW - 1.5)


def _hours_within(cell: Cell) -> Iterator[tuple[int, int]]:
    begin = cell.from_minute
    while begin < cell.until_minute:
        end = min((begin // 60 + 1) * 60, cell.until_minute)
        yield begin, end
        begin = end


def _mark(tone: BandTone, x: float, y: float, width: float, height: float) -> Iterator[str]:
    """One, two or three lines through a cell of a band that shares its tone with a cheaper one."""
    count = min(tone.mark, 3)
    css = "mk1" if tone.tone == 1 else "mk"
    for number in range(count):
        at = y + height * (number + 1) / (count + 1)
        yield rect(css, x + width * 0.2, at - 0.9, width * 0.6, 1.8)


def _hour_names(week: SeasonWeek, height: float) -> Iterator[str]:
    """The hours at which something changes, or every six where that is too much."""
    edges = sorted({cell.from_minute for row in week.rows for cell in row.cells} | {0, DAY})
    if len(edges) > _HOURS_SHOWN or min(b - a for a, b in pairwise(edges)) < 90:
        edges = [0, 360, 720, 1080, DAY]
    for minute in edges:
        name = f"{minute // 60:02d}" + (f":{minute % 60:02d}" if minute % 60 else "")
        yield text("mid", _x(minute), height + 16, name)


def _changed_in_row(before: Tariff, after: Tariff, old: WeekRow, new: WeekRow) -> Iterator[Changed]:
    names_before, names_after = plan.band_names(before), plan.band_names(after)
    edges = sorted({cell.from_minute for row in (old, new) for cell in row.cells} | {DAY})
    for begin, end in pairwise(edges):
        was, now = _band_at(old, begin), _band_at(new, begin)
        if before.bands[was].name != after.bands[now].name:
            yield Changed(new.kind, begin, end, names_before[was], names_after[now])


def _band_at(row: WeekRow, minute: int) -> int:
    return next(c.band for c in row.cells if c.from_minute <= minute < c.until_minute)


def _outlines(
    changed: Sequence[Changed], row_of: dict[int, float]
) -> Iterator[tuple[float, float, float, int]]:
    """(x, y, width, rows) of the hours that changed, days with the same ones as one."""
    spans: dict[tuple[int, int], list[float]] = {}
    for each in changed:
        spans.setdefault((each.from_minute, each.until_minute), []).append(row_of[each.kind])
    for (begin, end), tops in spans.items():
        x, width = _x(begin), _x(end) - _x(begin)
        first, rows = tops[0], 0
        for top in tops:
            if top != first + rows * _ROW:
                yield x, first, width, rows
                first, rows = top, 0
            rows += 1
        yield x, first, width, rows


class _StairScale:
    """Where an energy and a price lie in the stairs' picture."""

    def __init__(self, tariff: Tariff, stairs: SeasonStairs) -> None:
        limits = stairs.limits_wh
        # What has no end is drawn a third beyond the last limit.
        self.end_wh = limits[-1] * 4 // 3 if limits else 1
        top = max(tread.price_nano_per_kwh for stair in stairs.stairs for tread in stair.treads)
        step = _nice_step(max(top, 1))
        self.ticks = tuple(range(0, top + step, step))
        self.top = max(self.ticks[-1], 1)

    def x(self, wh: int | None) -> float:
        share = 1.0 if wh is None else min(wh / self.end_wh, 1.0)
        return _LEFT + (_RIGHT - _LEFT) * share

    def y(self, nano: int) -> float:
        return _FLOOR - (_FLOOR - _TOP) * nano / self.top


def _nice_step(top: int) -> int:
    """A round step that divides a price into at most five parts."""
    size = 1
    while True:
        for factor in (1, 2, 5):
            if factor * size * 5 >= top:
                return factor * size
        size *= 10


def _limit_marks(scale: _StairScale, stairs: SeasonStairs, lang: str) -> Iterator[str]:
    taken = [_LEFT]
    yield text("mid", _LEFT, _FLOOR + 17, "0")
    for limit in stairs.limits_wh:
        x = scale.x(limit)
        yield line("grid", x, _TOP, x, _FLOOR)
        row = 0 if x - taken[-1] >= _LIMIT_APART or len(taken) == 1 else 1
        taken = [*taken, x] if row == 0 else taken
        yield text("mid", x, _FLOOR + 17 + row * 15, fmt.energy_exact(limit, lang))
    yield text("end", _RIGHT, _FLOOR + 17, _("more"))


def _stair_marks(scale: _StairScale, stair: Stair) -> Iterator[str]:
    points: list[str] = []
    for tread in stair.treads:
        y = scale.y(tread.price_nano_per_kwh)
        points += [
            f"{scale.x(tread.from_wh):.1f},{y:.1f}",
            f"{scale.x(tread.until_wh):.1f},{y:.1f}",
        ]
    path = " ".join(points)
    tone = stair.tone
    if tone.tone == 1:
        yield f'<polyline class="stair s1-edge" points="{path}"/>'
    yield f'<polyline class="stair s{tone.tone}" points="{path}"/>'
    if tone.mark:
        yield f'<polyline class="stair s-mark" points="{path}"/>'


#: x from, x until, y from, y until.
_Box = tuple[float, float, float, float]


def _price_names(tariff: Tariff, scale: _StairScale, stairs: SeasonStairs) -> Iterator[str]:
    """The price on each tread, above or below it where there is room; the table has them all."""
    taken = [box for stair in stairs.stairs for box in _line_boxes(scale, stair)]
    treads = [tread for stair in stairs.stairs for tread in stair.treads]
    for tread in sorted(treads, key=lambda each: each.price_nano_per_kwh):
        name = format_price(tread.price_nano_per_kwh, currency=tariff.currency)
        x, y = scale.x(tread.from_wh) + 5, scale.y(tread.price_nano_per_kwh)
        for baseline in (y - 6, y + 16):
            box = (x, x + _LETTER * len(name), baseline - 11, baseline + 3)
            inside = box[1] <= _RIGHT and box[3] < _FLOOR
            if inside and not any(_meet(box, other) for other in taken):
                taken.append(box)
                yield text("em", x, baseline, name)
                break


def _line_boxes(scale: _StairScale, stair: Stair) -> Iterator[_Box]:
    before: float | None = None
    for tread in stair.treads:
        begin, y = scale.x(tread.from_wh), scale.y(tread.price_nano_per_kwh)
        yield (begin, scale.x(tread.until_wh), y - 2, y + 2)
        if before is not None:
            yield (begin - 2, begin + 2, min(y, before), max(y, before))
        before = y


def _meet(one: _Box, other: _Box) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]


def _stair_text(tariff: Tariff, stair: Stair, lang: str) -> str:
    names = plan.band_names(tariff)
    prices = (
        format_price(tread.price_nano_per_kwh, currency=tariff.currency)
        + ("" if tread.until_wh is None else f" ≤ {fmt.energy_exact(tread.until_wh, lang)}")
        for tread in stair.treads
    )
    return f"{names[stair.tone.band]}: {fmt.listed(prices, lang)}"
