"""Server-made charts: SVG with title and description, true-size text, no script and no inline style.

Past is solid, future dashed, now a dotted line; weekends are shaded; axes start at zero. Geometry is
floating point, the figures under it stay integers: nothing drawn is ever read back.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from django.utils.html import escape, format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from prewatt.core.money import MICRO
from prewatt.reports.account import AccountPage
from prewatt.reports.narrow import PropertyFigures
from prewatt.reports.today import Today
from prewatt.web.ui import format as fmt


def rect(css: str, x: float, y: float, w: float, h: float, rx: str = "") -> str:
    """A rectangle, its corners rounded by ``rx``."""
    rounded = f' rx="{rx}"' if rx else ""
    return (
        f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}"{rounded}/>'
    )


def line(css: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """A straight line."""
    return f'<line class="{css}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def text(css: str, x: float, y: float, said: object) -> str:
    """A text, escaped, its baseline at ``y``."""
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}">{escape(said)}</text>'


def figure(
    marks: Sequence[str], *, name: str, width: int, height: int, title: str, desc: str
) -> SafeString:
    """The SVG of these marks; ``name`` is unlike that of every other chart of the page."""
    return format_html(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-labelledby="{}-t {}-d">'
        '<title id="{}-t">{}</title><desc id="{}-d">{}</desc>{}</svg>',
        width,
        height,
        name,
        name,
        name,
        title,
        name,
        desc,
        SafeString("".join(marks)),
    )


def flow_chart(today: Today, lang: str) -> SafeString:
    """Money in above and energy out below one axis, by local hour; both halves share one scale each.

    Recharges are tens of times a usage hour, so the halves have their own scale; the figures under
    the chart, not the bars, say how they compare.
    """
    width, axis, up, down = 304, 97.0, 84.0, 46.0
    step = width / today.flow_hours
    top_in = max((flow.in_micro for flow in today.flow), default=0) or 1
    top_out = max((flow.out_micro for flow in today.flow), default=0) or 1
    marks: list[str] = []
    for flow in today.flow:
        x = flow.hour * step + 1
        if flow.in_micro > 0:
            size = max(1.5, up * flow.in_micro / top_in)
            marks.append(rect("fill-in", x, axis - 1 - size, step - 2, size, "1.5"))
        if flow.out_micro > 0:
            size = max(1.5, down * flow.out_micro / top_out)
            marks.append(rect("fill-out", x, axis + 1, step - 2, size, "1.5"))
    marks.append(line("axis", 0, axis, width, axis))
    now_x = today.now_hour_tenths / 10 * step
    clock = fmt.clock(today.now, today.place.time_zone)
    late = now_x > width * 0.8
    marks.append(line("now", now_x, 8, now_x, 150))
    marks.append(text("em end" if late else "em", now_x + (-6 if late else 6), 16, clock))
    for hour in (0, 6, 12, 18, 24):
        css = "" if hour == 0 else "end" if hour == 24 else "mid"
        marks.append(text(css, hour * width / 24, 166, f"{hour:02d}:00"))
    money = {
        "money": fmt.money(today.figures.money_in_micro, today.place.currency),
        "usage": fmt.money(today.figures.energy_out_micro, today.place.currency),
    }
    return figure(
        marks,
        name="flow",
        width=width,
        height=170,
        title=_("Money in and energy out by hour, today until %(at)s") % {"at": clock},
        desc=_("Recharges %(money)s, usage charged %(usage)s.") % money,
    )


def months_chart(page: PropertyFigures, lang: str) -> SafeString:
    """Money received above and charged below one axis, month by month, both on one scale."""
    width, axis, half = 304, 78.0, 68.0
    months = page.months[::-1]
    step = min(48.0, width / len(months))
    top = max(max(each.received_micro, each.charged_micro) for each in months) or 1
    marks: list[str] = []
    for number, each in enumerate(months):
        x = number * step
        middle, bar = x + step / 2, step * 0.6
        up, down = half * each.received_micro / top, half * each.charged_micro / top
        if up > 0:
            marks.append(rect("fill-in", middle - bar / 2, axis - 1 - up, bar, up, "1.5"))
        if down > 0:
            marks.append(rect("fill-out", middle - bar / 2, axis + 1, bar, down, "1.5"))
        # In a year's chart there is room for every second name.
        if step > width / 9 or number % 2 == 1:
            marks.append(text("mid", middle, 164, fmt.month_name(each.month, lang)[:3]))
    marks.append(line("axis", 0, axis, width, axis))
    return figure(
        marks,
        name="months",
        width=width,
        height=170,
        title=_("Money received and charged, by month"),
        desc=_("The same figures stand in the table below."),
    )


#: The balance chart's drawing area.
_LEFT, _RIGHT, _TOP, _FLOOR, _BASE = 44.0, 780.0, 18.0, 190.0, 276.0
_BAR_TOP = 214.0


DAYS_MIN = 14
#: Names of recharges, and of days, need this much room in the chart.
NAMES_APART, DAY_NAME_WIDTH = 90.0, 44.0


class _BalanceScale:
    """Where an instant, an amount and an energy lie in the balance chart."""

    def __init__(self, page: AccountPage) -> None:
        zone = ZoneInfo(page.place.time_zone)
        # Two weeks are drawn even for an account of yesterday, so that charts compare.
        self.first = min(page.days[0].day, page.days[-1].day - timedelta(days=DAYS_MIN - 1))
        self.days = (page.days[-1].day - self.first).days + 1 + _ahead_days(page)
        self.begin = datetime(self.first.year, self.first.month, self.first.day, tzinfo=zone)
        self.step = (_RIGHT - _LEFT) / self.days
        self.top = _nice(max((point.micro for point in page.points), default=0))
        # The zero line gives way when emergency credit was in use, so that this is seen too.
        low = max(0, -min((point.micro for point in page.points), default=0))
        self.zero = _TOP + (_FLOOR - _TOP) * self.top / (self.top + low)
        self.top_wh = max((day.total_wh for day in page.days), default=0) or 1

    def x(self, at: datetime) -> float:
        here = at.astimezone(self.begin.tzinfo)
        day = (here.date() - self.first).days
        share = (here.hour * 60 + here.minute) / 1440
        return min(max(_LEFT + (day + share) * self.step, _LEFT), _RIGHT)

    def y(self, micro: int) -> float:
        y = self.zero - (self.zero - _TOP) * micro / self.top
        return min(max(y, _TOP), _FLOOR)

    def bar(self, wh: int) -> float:
        return (_BASE - _BAR_TOP) * wh / self.top_wh


def balance_chart(page: AccountPage, lang: str) -> SafeString:
    """Balance and daily usage by price band on one time axis, the expected balance dashed."""
    if not page.days:
        return SafeString("")
    scale = _BalanceScale(page)
    marks = _ground(page, scale, lang)
    marks += _balance_line(page, scale)
    marks += _outlook(page, scale, lang)
    marks += _usage_bars(page, scale)
    marks.append(line("axis", _LEFT, _BASE, _RIGHT, _BASE))
    currency, zone = page.place.currency, page.place.time_zone
    desc = _("The balance is %(balance)s now.") % {
        "balance": fmt.money(page.balance.available_micro, currency)
    }
    if page.outlook.runs_out_at is not None:
        desc += " " + _("Expected to reach zero %(when)s.") % {
            "when": fmt.about(page.outlook.runs_out_at, page.now, zone, lang, long=True)
        }
    return figure(
        marks,
        name="balance",
        width=780,
        height=300,
        title=_("Balance and usage since %(day)s")
        % {"day": fmt.date_text(page.days[0].day, lang, long=True)},
        desc=desc,
    )


def _ahead_days(page: AccountPage) -> int:
    """How many coming days to draw: up to a week, and one past the end of credit if it is sooner."""
    end = page.outlook.emergency_ends_at or page.outlook.runs_out_at
    if page.holder.closed_at is not None:
        return 0
    if end is None:
        return 4
    return min(7, max(3, (end - page.now).days + 2))


def _ground(page: AccountPage, scale: _BalanceScale, lang: str) -> list[str]:
    marks = []
    for number in range(scale.days):
        day = scale.first + timedelta(days=number)
        x = _LEFT + number * scale.step
        if day.weekday() >= 5:
            marks.append(rect("rest", x, 14, scale.step, _BASE - 14))
        name = fmt.day_name(day, lang)
        label = f"{name[:2]} {day.day}" if not fmt.is_chinese(lang) else f"{name[1]} {day.day}"
        if scale.step >= DAY_NAME_WIDTH or number % 2 == 0:
            marks.append(text("mid", x + scale.step / 2, 294, label))
    for part in range(4):
        amount = scale.top * part // 3
        y = scale.y(amount)
        marks.append(line("grid" if part else "axis", _LEFT, y, _RIGHT, y))
        sign = fmt.money_parts(amount, page.place.currency).currency
        marks.append(text("end", _LEFT - 8, y + 4, f"{sign}{amount // MICRO:,}"))
    marks.append(text("end", _LEFT - 8, _BAR_TOP + 10, fmt.energy_digits(scale.top_wh)))
    marks.append(text("end", _LEFT - 8, _BASE, "度" if fmt.is_chinese(lang) else "kWh"))
    return marks


def _balance_line(page: AccountPage, scale: _BalanceScale) -> list[str]:
    points = [(scale.x(point.at), scale.y(point.micro)) for point in page.points]
    if not points:
        return []
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    first, last = points[0][0], points[-1][0]
    area = f"M{first:.1f},{scale.zero:.1f} L{path} L{last:.1f},{scale.zero:.1f}Z"
    marks = [
        f'<path class="money-area" d="{area}"/>',
        f'<polyline class="money-line" points="{path}"/>',
    ]
    rises = [
        (after.micro - before.micro, after)
        for before, after in zip(page.points, page.points[1:], strict=False)
        if after.micro - before.micro >= MICRO
    ]
    named: list[float] = []
    # The largest recharges are named first; a smaller one too near to a named one goes unnamed.
    for rise, after in sorted(rises, key=lambda pair: -pair[0]):
        x = scale.x(after.at)
        if all(abs(x - other) > NAMES_APART for other in named):
            named.append(x)
            label = fmt.signed_money(rise, page.place.currency)
            y = max(scale.y(after.micro) - 4, _TOP + 8)
            before_now = scale.x(page.now) - x < NAMES_APART
            marks.append(
                text("em end" if before_now else "em", x + (-8 if before_now else 8), y, label)
            )
    return marks


def _outlook(page: AccountPage, scale: _BalanceScale, lang: str) -> list[str]:
    x_now, y_now = scale.x(page.now), scale.y(page.balance.available_micro)
    if page.holder.closed_at is not None:
        x_end = scale.x(page.holder.closed_at)
        return [line("now", x_end, 14, x_end, _BASE), text("em end", x_end, 10, _("closed here"))]
    marks = [
        line("now", x_now, 14, x_now, _BASE),
        text("em mid", x_now, 10, _("now")),
    ]
    look, zone = page.outlook, page.place.time_zone
    if look.runs_out_at is not None and look.runs_out_at > page.now:
        x_end = scale.x(look.runs_out_at)
        inside = x_end < _RIGHT
        if inside and look.runs_out_early_at and look.runs_out_late_at:
            early, late = (
                scale.x(look.runs_out_early_at),
                scale.x(look.runs_out_late_at),
            )
            marks.append(
                f'<path class="range" d="M{x_now:.1f},{y_now:.1f} L{early:.1f},{scale.zero:.1f} '
                f'L{late:.1f},{scale.zero:.1f}Z"/>'
            )
        y_end = scale.zero if inside else _clipped(page, look.runs_out_at, scale)
        marks.append(
            f'<polyline class="ahead" points="{x_now:.1f},{y_now:.1f} {x_end:.1f},{y_end:.1f}"/>'
        )
        if inside:
            marks.append(
                f'<circle class="fill-low" cx="{x_end:.1f}" cy="{scale.zero:.1f}" r="4.5"/>'
            )
            right = x_end > _RIGHT - 110
            css, dx = ("end", -8) if right else ("", 8)
            when = fmt.about(look.runs_out_at, page.now, zone, lang)
            marks.append(text(f"em {css}".strip(), x_end + dx, scale.zero - 38, when))
            if look.runs_out_early_at and look.runs_out_late_at:
                half = (look.runs_out_late_at - look.runs_out_early_at).total_seconds() / 2
                marks.append(text(css, x_end + dx, scale.zero - 22, fmt.spread(int(half), lang)))
        if inside and look.emergency_ends_at is not None:
            x_spare = scale.x(look.emergency_ends_at)
            marks.append(rect("spare", x_end, scale.zero + 1, max(x_spare - x_end, 2), 9))
    marks.append(f'<circle class="dot" cx="{x_now:.1f}" cy="{y_now:.1f}" r="4"/>')
    return marks


def _clipped(page: AccountPage, end: datetime, scale: _BalanceScale) -> float:
    """Where the expected line leaves the picture when credit lasts beyond it."""
    total = (end - page.now).total_seconds()
    shown = (scale.begin + timedelta(days=scale.days) - page.now).total_seconds()
    left = int(page.balance.available_micro * max(0.0, 1 - shown / total))
    return scale.y(left)


def _usage_bars(page: AccountPage, scale: _BalanceScale) -> list[str]:
    marks = []
    order = {band.code: band.order for band in page.bands}
    for day in page.days:
        x = _LEFT + (day.day - scale.first).days * scale.step + scale.step * 0.14
        y = _BASE - 0.6
        for code, wh in sorted(day.wh.items(), key=lambda item: order.get(item[0], 1)):
            size = scale.bar(wh)
            if size >= 0.3:
                y -= size
                css = f"b{min(3, order.get(code, 1))}"
                marks.append(rect(css, x, y, scale.step * 0.72, max(size - 0.6, 0.3)))
    return marks


def _nice(micro: int) -> int:
    """The next round amount above, divisible by three grid lines."""
    for step in (
        3,
        6,
        9,
        15,
        30,
        45,
        60,
        90,
        150,
        300,
        450,
        600,
        900,
        1500,
        3000,
        6000,
        15000,
    ):
        if micro <= step * MICRO:
            return step * MICRO
    return -(-micro // (30_000 * MICRO)) * 30_000 * MICRO
