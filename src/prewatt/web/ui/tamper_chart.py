"""The chart of a case: the usage of its meter around the incident, with the evidence as marks on the axis."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from prewatt.reports.tamper import CasePage
from prewatt.web.ui import format as fmt
from prewatt.web.ui.charts import figure, line, rect, text

_LEFT: Final = 76.0
_RIGHT: Final = 700.0
_TOP: Final = 28.0
_BASE: Final = 190.0
_US_PER_H: Final = 3_600.0


def usage_chart(page: CasePage, lang: str) -> SafeString:
    """Mean power of each part as a bar from zero; a triangle where evidence is; a dotted line where it was closed."""
    zone = page.place.time_zone
    span_s = max((page.ends - page.begins).total_seconds(), 1.0)

    def x_of(at: datetime) -> float:
        share = (at - page.begins).total_seconds() / span_s
        return _LEFT + (_RIGHT - _LEFT) * min(max(share, 0.0), 1.0)

    watts = [
        part.wh * _US_PER_H / max((part.ends - part.begins).total_seconds(), 1.0)
        for part in page.usage
    ]
    top_w = max([*watts, 100.0])
    marks = [
        line("axis", _LEFT, _BASE, _RIGHT, _BASE),
        text("end", _LEFT - 8, _BASE + 4, "0"),
        text("end", _LEFT - 8, _TOP + 4, _power(int(top_w))),
        text("", _LEFT, _BASE + 34, fmt.stamp(page.begins, page.now, zone, lang)),
        text("end", _RIGHT, _BASE + 34, fmt.stamp(page.ends, page.now, zone, lang)),
    ]
    for part, power in zip(page.usage, watts, strict=True):
        x, until = x_of(part.begins), x_of(part.ends)
        height = (_BASE - _TOP) * power / top_w
        if height >= 0.5:
            marks.append(rect("fill-out", x, _BASE - height, max(until - x - 1, 1), height))
    for at in sorted({round(x_of(each.happened_at)) for each in page.evidence}):
        marks.append(line("now", at, _TOP - 8, at, _BASE))
        marks.append(f'<path class="fill-tamper" d="M{at} {_BASE + 4}l7 12h-14z"/>')
    return figure(
        marks,
        name="around",
        width=720,
        height=232,
        title=_("The usage of meter %(serial)s around the incident") % {"serial": page.case.serial},
        desc=_("Most power: %(power)s. Evidence: %(n)s times.")
        % {"power": _power(int(top_w)), "n": page.case.count},
    )


def _power(watts: int) -> str:
    return f"{watts / 1000:.1f} kW"
