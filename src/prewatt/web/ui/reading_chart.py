"""The chart of a held reading: the register over time, the watermark, and the reading that waits."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from prewatt.reports.held import HeldPage
from prewatt.web.ui import format as fmt
from prewatt.web.ui.charts import figure, line, text

_LEFT: Final = 96.0
_RIGHT: Final = 700.0
_TOP: Final = 24.0
_BASE: Final = 220.0


def reading_chart(page: HeldPage, lang: str) -> SafeString:
    """Accepted registers as a line, the held one as a hollow mark joined to the watermark by dashes."""
    case, zone = page.case, page.place.time_zone
    instants = [each.at for each in page.points] + [case.watermark_at, case.read_at]
    values = [each.value_wh for each in page.points] + [case.watermark_wh, case.value_wh]
    first, last, low, high = min(instants), max(instants), min(values), max(values)
    span_s = max((last - first).total_seconds(), 1.0)

    def x_of(at: datetime) -> float:
        return _LEFT + (_RIGHT - _LEFT) * ((at - first).total_seconds() / span_s)

    def y_of(value: int) -> float:
        return _BASE - (_BASE - _TOP) * (value - low) / max(high - low, 1)

    marks = [
        line("axis", _LEFT, _BASE, _RIGHT, _BASE),
        text("end", _LEFT - 8, _BASE + 4, fmt.register(low)),
        text("end", _LEFT - 8, _TOP + 4, fmt.register(high)),
        text("", _LEFT, _BASE + 20, fmt.stamp(first, page.now, zone, lang)),
        text("end", _RIGHT, _BASE + 20, fmt.stamp(last, page.now, zone, lang)),
    ]
    known = [(x_of(each.at), y_of(each.value_wh)) for each in page.points if not each.held]
    if known:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in known)
        marks.append(f'<polyline class="money-line" points="{path}"/>')
    mark_x, mark_y = x_of(case.watermark_at), y_of(case.watermark_wh)
    x, y = x_of(case.read_at), y_of(case.value_wh)
    marks.append(
        f'<path class="ahead" d="M{mark_x:.1f} {mark_y:.1f} L{x:.1f} {y:.1f}"/>'
        f'<circle class="dot" cx="{mark_x:.1f}" cy="{mark_y:.1f}" r="4"/>'
        f'<path class="fill-low" d="M{x:.1f} {y - 7:.1f}l7 7l-7 7l-7-7z"/>'
    )
    side = "end" if x > (_LEFT + _RIGHT) / 2 else ""
    shift = -12 if side else 12
    marks.append(
        text(
            f"em {side}".strip(),
            x + shift,
            max(y - 6, 14),
            f"{_('held')} {fmt.register(case.value_wh)}",
        )
    )
    return figure(
        marks,
        name="reading",
        width=720,
        height=250,
        title=_("The register of meter %(serial)s") % {"serial": case.serial},
        desc=_("Held: %(value)s. The last accepted register before it: %(mark)s.")
        % {"value": fmt.register(case.value_wh), "mark": fmt.register(case.watermark_wh)},
    )
