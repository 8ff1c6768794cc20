"""The lines of a charge in words that a tenant understands.

A line says what was counted and at which price; the amount stands beside it. Codes are named as the
plan names them, and where the plan is not known, the code itself is shown.
"""

from __future__ import annotations

from collections.abc import Callable

from django.utils.translation import gettext as _

from prewatt.core.baseline import Outcome
from prewatt.core.money import format_price
from prewatt.core.rating import Component
from prewatt.core.tariff import Tariff
from prewatt.core.tariff.model import Bound
from prewatt.reports.charge_page import ChargeLine, Corrected, Run
from prewatt.web.ui import format as fmt
from prewatt.web.ui import plan, sentences


def line_text(line: ChargeLine, currency: str, lang: str) -> str:
    """`14.2 kWh at the Night price of €0.1680 per kWh, step 2`."""
    writer = _LINES.get(line.component)
    said = writer(line, currency, lang) if writer else ""
    return said or _named(line.component, line.code)


def run_text(run: Run, tariff: Tariff | None, currency: str, lang: str) -> str:
    """`Night, step 2, €0.1720`; what is free says so."""
    parts = [_band(tariff, run.band), *_step(tariff, run.step)]
    parts.append(_("free") if run.free else format_price(run.price_nano_per_kwh, currency=currency))
    return fmt.listed(parts, lang)


def corrected_text(line: Corrected, lang: str) -> str:
    """What was corrected: `Energy, Peak, step 2`, or the charge's own name."""
    parts = [str(sentences.COMPONENT[line.component])]
    if line.component is Component.ENERGY:
        parts += [_band(line.tariff, line.band), *_step(line.tariff, line.step)]
    elif line.code:
        parts.append(label_of(line.tariff, line.code))
    return fmt.listed(parts, lang)


def label_of(tariff: Tariff | None, code: str) -> str:
    """What the plan calls a charge, tax or allowance; its code where that is not known."""
    if tariff is None:
        return code
    labels: dict[str, str] = {}
    labels.update((each.code, each.label) for each in tariff.dated)
    labels.update((each.code, each.label) for each in tariff.usage_fees)
    labels.update((each.code, each.label) for each in tariff.demand)
    labels.update((each.code, each.label) for each in tariff.taxes)
    labels.update((each.code, each.label) for each in tariff.allowances)
    return labels.get(code, code)


def _named(component: Component, code: str) -> str:
    return (
        f"{sentences.COMPONENT[component]}{_(': ')}{code}"
        if code
        else str(sentences.COMPONENT[component])
    )


def _band(tariff: Tariff | None, band: int) -> str:
    if tariff is None or band >= len(tariff.bands):
        return _("band %(n)s") % {"n": band + 1}
    return plan.band_names(tariff)[band]


def _step(tariff: Tariff | None, step: int) -> list[str]:
    """The step, where the plan has any."""
    has_steps = step > 0 or (tariff is not None and tariff.steps is not None)
    return [_("step %(n)s") % {"n": step + 1}] if has_steps else []


def _energy(line: ChargeLine, currency: str, lang: str) -> str:
    said = {
        "energy": fmt.energy_wh(line.energy_wh, lang),
        "band": sentences.in_a_sentence(_band(line.tariff, line.band)),
    }
    if line.price_nano_per_kwh is None:
        text = _("%(energy)s at the %(band)s price") % said
    else:
        said["price"] = format_price(line.price_nano_per_kwh, currency=currency)
        text = _("%(energy)s at the %(band)s price of %(price)s per kWh") % said
    return fmt.listed([text, *_step(line.tariff, line.step)], lang)


def _dated(line: ChargeLine, currency: str, lang: str) -> str:
    if line.tariff is None:
        return ""
    return plan.dated_text(line.tariff, line.code, lang)


def _fee(line: ChargeLine, currency: str, lang: str) -> str:
    if line.tariff is None:
        return ""
    return plan.usage_fee_text(line.tariff, line.code, lang) or _dated(line, currency, lang)


def _demand(line: ChargeLine, currency: str, lang: str) -> str:
    label = label_of(line.tariff, line.code)
    if line.peak_w is None:
        return label
    return _("%(name)s: the highest power of the month so far is %(power)s kW.") % {
        "name": label,
        "power": f"{line.peak_w / 1000:.1f}",
    }


def _tax(line: ChargeLine, currency: str, lang: str) -> str:
    return f"{label_of(line.tariff, line.code)} {fmt.percent(line.tax_rate_ppm)}"


def _subsidy(line: ChargeLine, currency: str, lang: str) -> str:
    return plan.allowance_text(line.tariff, line.code, lang) if line.tariff else ""


def _rebate(line: ChargeLine, currency: str, lang: str) -> str:
    peak = line.rebated
    if peak is None:
        return ""
    if peak.outcome not in (Outcome.PAID, Outcome.NOT_LESS):
        return _("The rebate of an announced peak, taken back: %(why)s") % {
            "why": sentences.PEAK_OUTCOME[peak.outcome]
        }
    return _(
        "You used %(used)s in the announced peak, your usual is %(usual)s (the mean of %(counted)s of "
        "%(days)s days before): %(price)s back for each kWh less"
    ) % {
        "used": fmt.energy_wh(peak.used_wh, lang),
        "usual": fmt.energy_wh(peak.usual_wh, lang),
        "counted": peak.counted,
        "days": peak.days,
        "price": format_price(peak.rebate_nano, currency=currency),
    }


def _minimum(line: ChargeLine, currency: str, lang: str) -> str:
    minimum = None if line.tariff is None else line.tariff.minimum
    return _bound(minimum, _("Up to the minimum of %(amount)s"), currency)


def _maximum(line: ChargeLine, currency: str, lang: str) -> str:
    maximum = None if line.tariff is None else line.tariff.maximum
    return _bound(maximum, _("Given back above the maximum of %(amount)s"), currency)


def _bound(bound: Bound | None, text: str, currency: str) -> str:
    if bound is None:
        return ""
    return text % {"amount": plan.amount_per(bound.amount_nano, bound.per.value, currency)}


_LINES: dict[Component, Callable[[ChargeLine, str, str], str]] = {
    Component.ENERGY: _energy,
    Component.STANDING: _dated,
    Component.FEE: _fee,
    Component.DEMAND: _demand,
    Component.TAX: _tax,
    Component.SUBSIDY: _subsidy,
    Component.REBATE: _rebate,
    Component.MINIMUM: _minimum,
    Component.MAXIMUM: _maximum,
}
