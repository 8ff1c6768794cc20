"""A tariff in sentences that a tenant understands, part by part, in the page's language.

Every figure is written in full: a plan is what people are charged by, and nothing in it is rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _

from prewatt.core.money import format_price
from prewatt.core.tariff import Tariff
from prewatt.core.tariff.model import (
    Allowance,
    Bound,
    Collect,
    DatedCharge,
    Demand,
    OnTenantChange,
    Overlay,
    OverlayKind,
    Per,
    Scale,
    StepKind,
    Steps,
    StepScope,
    Tax,
    Taxable,
    Temporary,
    UsageFee,
    Window,
)
from prewatt.core.tariff.words import factor_text
from prewatt.reports.tariff_picture import (
    Hours,
    SeasonWeek,
    hours_of,
    limits_of,
    price_at,
    weeks_of,
)
from prewatt.web.ui import format as fmt
from prewatt.web.ui import sentences


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the plan: its heading and its sentences, in groups with a title or without."""

    key: str
    heading: str
    groups: tuple[tuple[str, tuple[str, ...]], ...]


def sections(tariff: Tariff, lang: str) -> tuple[Section, ...]:
    """What the plan says, in the order in which a tenant asks; parts it does not have are left out."""
    words = _Words(tariff, lang)
    energy = Section("energy", _("What a kilowatt-hour costs"), tuple(words.energy()))
    parts = (
        ("steps", _("Prices that change with use"), words.steps()),
        ("dated", _("What is due without any use"), words.dated()),
        ("fees", _("Fees on use"), words.usage_fees()),
        ("allowances", _("What is free or given back"), words.allowances()),
        ("bounds", _("At least, at most"), words.bounds()),
        ("demand", _("The highest power"), words.demands()),
        ("taxes", _("Taxes"), words.taxes()),
        ("overlays", _("Announced prices"), words.overlays()),
        ("debt", _("Debts"), words.debt()),
        ("temporary", _("Rent and deposit"), words.temporary()),
    )
    found = ((key, heading, tuple(lines)) for key, heading, lines in parts)
    return (
        energy,
        *(Section(key, heading, (("", lines),)) for key, heading, lines in found if lines),
    )


def counting(tariff: Tariff, lang: str) -> str:
    """From when steps count and what their limits are multiplied by."""
    if tariff.steps is None:
        return ""
    return ("" if fmt.is_chinese(lang) else " ").join(_Words(tariff, lang).counting(tariff.steps))


def allowance_text(tariff: Tariff, code: str, lang: str) -> str:
    """What an allowance of the plan gives, by its code; empty where it has none of that code."""
    words = _Words(tariff, lang)
    found = [words.allowance(each) for each in tariff.allowances if each.code == code]
    return found[0] if found else ""


def dated_text(tariff: Tariff, code: str, lang: str) -> str:
    """What a charge by time of the plan costs, by its code; empty where it has none of that code."""
    words = _Words(tariff, lang)
    found = [words.dated_charge(each) for each in tariff.dated if each.code == code]
    return found[0] if found else ""


def usage_fee_text(tariff: Tariff, code: str, lang: str) -> str:
    """What a fee on use costs, by its code; empty where the plan has none of that code."""
    words = _Words(tariff, lang)
    found = [words.usage_fee(each) for each in tariff.usage_fees if each.code == code]
    return found[0] if found else ""


def band_names(tariff: Tariff) -> tuple[str, ...]:
    """The bands' names in the page's language, by position."""
    return tuple(sentences.band_name(band.name, band.label) for band in tariff.bands)


def season_name(name: str) -> str:
    """A season's name in the page's language, or its own words."""
    return sentences.said(sentences.SEASON, name)


def season_title(tariff: Tariff, season: int, lang: str) -> str:
    """`Summer, 1 Jun – 31 Aug`."""
    own = tariff.seasons[season]
    return fmt.listed((season_name(own.name), fmt.grid_days(own.ranges, lang)), lang)


def hours_text(tariff: Tariff, season: int, band: int, lang: str) -> str:
    """When a band holds: `Mon to Fri 17:00–21:00; Sat, Sun 18:00–20:00`."""
    return hours_words(hours_of(tariff, season, band), lang)


def hours_words(hours: Sequence[Hours], lang: str) -> str:
    """Hours by day in words; over midnight as one stretch where every day is alike."""
    parts = []
    for each in hours:
        spans = list(each.spans)
        every_day = set(range(7)) <= set(each.kinds)
        if spans == [(0, 1440)]:
            times = _("all day")
        else:
            if every_day and len(spans) > 1 and spans[0][0] == 0 and spans[-1][1] == 1440:
                spans = [*spans[1:-1], (spans[-1][0], spans[0][1])]
            times = fmt.listed((fmt.minutes_of_day(*span) for span in spans), lang)
        parts.append(f"{fmt.day_kinds(each.kinds, lang)} {times}")
    return ("；" if fmt.is_chinese(lang) else "; ").join(parts)


def limits_text(limits_wh: Sequence[int], lang: str) -> str:
    """`50, 350 and 600 kWh` as a plain list."""
    return fmt.listed((fmt.energy_exact(each, lang) for each in limits_wh), lang)


def amount_per(nano: int, per: str, currency: str) -> str:
    """`€0.3500 a day`, every decimal it has."""
    return _("%(amount)s %(per)s") % {
        "amount": amount(nano, currency),
        "per": sentences.said(sentences.PER, per),
    }


def amount(nano: int, currency: str) -> str:
    """An amount in full, at least two decimals."""
    return format_price(nano, currency=currency, digits=2)


class _Words:
    """The sentences of one tariff in one language."""

    def __init__(self, tariff: Tariff, lang: str) -> None:
        self.tariff, self.lang = tariff, lang
        self.names = band_names(tariff)

    def energy(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """The sentences of each season under its title."""
        tariff = self.tariff
        if len(tariff.bands) == 1 and len(tariff.seasons) == 1:
            yield "", (_("%(price)s at any hour.") % {"price": self._prices(0, 0)},)
            return
        weeks = weeks_of(tariff)
        for week in weeks:
            title = season_title(tariff, week.season, self.lang) if len(weeks) > 1 else ""
            yield title, tuple(self._band(week.season, tone.band) for tone in week.bands)
        if holidays := tuple(self._holidays(weeks)):
            yield "", holidays

    def _band(self, season: int, band: int) -> str:
        return _("%(band)s: %(price)s, %(hours)s.") % {
            "band": self.names[band],
            "price": self._prices(season, band),
            "hours": hours_text(self.tariff, season, band, self.lang),
        }

    def _holidays(self, weeks: Sequence[SeasonWeek]) -> Iterator[str]:
        by_day = any(len({row.cells for row in week.rows}) > 1 for week in weeks)
        if by_day and not any(week.has_holidays for week in weeks):
            yield _("A holiday is priced as the weekday that it falls on.")

    def _prices(self, season: int, band: int) -> str:
        """`€0.2480 per kWh`, or with its steps: `€0.4883 per kWh up to 2,760 kWh, then …`."""
        currency = self.tariff.currency
        limits = limits_of(self.tariff, season, band)
        prices = [
            format_price(price_at(self.tariff, band, step), currency=currency)
            for step in range(len(limits) + 1)
        ]
        if len(set(prices)) == 1:
            return _("%(price)s per kWh") % {"price": prices[0]}
        parts = [
            _("%(price)s per kWh up to %(limit)s")
            % {"price": prices[0], "limit": fmt.energy_exact(limits[0], self.lang)},
            *(
                _("then %(price)s up to %(limit)s")
                % {"price": price, "limit": fmt.energy_exact(limit, self.lang)}
                for price, limit in zip(prices[1:], limits[1:], strict=False)
            ),
            _("above that %(price)s") % {"price": prices[-1]},
        ]
        return fmt.listed(parts, self.lang)

    def steps(self) -> Iterator[str]:
        steps = self.tariff.steps
        if steps is None:
            return
        yield self._step_kind(steps)
        yield from self.counting(steps)
        if len(self.tariff.bands) > 1:
            yield (
                _("All bands count together towards the limits.")
                if steps.scope is StepScope.ALL
                else _("Each band counts towards its limits by itself.")
            )
        yield (
            _("A new tenant starts at zero.")
            if steps.on_tenant_change is OnTenantChange.RESET
            else _("A new tenant goes on where the unit's count stands.")
        )

    def _step_kind(self, steps: Steps) -> str:
        if steps.kind is StepKind.GRADUATED:
            return _(
                "A limit that is passed changes the price of what comes after it, and of nothing before."
            )
        return _(
            "The step that is reached sets the price of everything used since the count began."
        )

    def counting(self, steps: Steps) -> Iterator[str]:
        """From when it counts, and how large the limits are."""
        yield _("Counting begins again with %(window)s.") % {"window": self._begins(steps.window)}
        yield from self._scaling(steps)

    def _begins(self, window: Window) -> str:
        day_of_year = fmt.grid_day(self.tariff.year_from, self.lang)
        return {
            Window.DAY: _("each day"),
            Window.MONTH: _("each calendar month"),
            Window.BILLING_MONTH: _("day %(day)s of each month") % {"day": self.tariff.billing_day},
            Window.QUARTER: _("each quarter: January, April, July, October"),
            Window.SEASON: _("each season"),
            Window.YEAR: _("%(day)s of each year") % {"day": day_of_year},
            Window.PURCHASE: _("each recharge"),
        }[window]

    def _scaling(self, steps: Steps) -> Iterator[str]:
        if steps.scale is Scale.DAYS:
            yield _("The limits are for one day, times all days of the window.")
        elif steps.scale is Scale.CONTRACTED_KW:
            yield _("The limits are for each contracted kW.")
        elif steps.scale is Scale.MEMBERS and not steps.add_wh:
            yield _("The limits are for each person of the household.")
        elif steps.add_wh:
            added = limits_text(steps.add_wh, self.lang)
            if len(set(steps.add_wh)) == 1:
                added = fmt.energy_exact(steps.add_wh[0], self.lang)
            yield _(
                "The limits are for up to %(persons)s persons; each one more raises them by %(added)s."
            ) % {"persons": steps.members_included, "added": added}

    def dated(self) -> Iterator[str]:
        for charge in self.tariff.dated:
            yield self.dated_charge(charge)
        if self.tariff.dated:
            yield _("It is due whether supply is on or not, for every day of the tenancy.")

    def dated_charge(self, charge: DatedCharge) -> str:
        """An amount by time."""
        said = {
            "name": self._label(charge.code, charge.label),
            "amount": amount_per(charge.amount_nano, charge.per.value, self.tariff.currency),
        }
        if charge.collect is Collect.FIRST_RECHARGE:
            return (
                _("%(name)s: %(amount)s, taken for the whole month with its first recharge.") % said
            )
        if charge.per is Per.DAY:
            return _("%(name)s: %(amount)s.") % said
        return _("%(name)s: %(amount)s, in equal parts day by day.") % said

    def _label(self, code: str, label: str) -> str:
        """The charge's own words, or ours where it was never given any."""
        return _("Standing charge") if code == label == "standing" else label

    def usage_fees(self) -> Iterator[str]:
        for fee in self.tariff.usage_fees:
            yield self.usage_fee(fee)

    def usage_fee(self, fee: UsageFee) -> str:
        """A fee on use."""
        if fee.share_ppm:
            return _("%(name)s: %(share)s of what the energy costs.") % {
                "name": fee.label,
                "share": fmt.percent(fee.share_ppm),
            }
        price = format_price(fee.nano_per_kwh, currency=self.tariff.currency)
        return _("%(name)s: %(price)s on every kWh.") % {"name": fee.label, "price": price}

    def allowances(self) -> Iterator[str]:
        for allowance in self.tariff.allowances:
            yield self.allowance(allowance)

    def allowance(self, allowance: Allowance) -> str:
        """Free energy or a rebate."""
        if allowance.free_wh:
            return _(
                "%(name)s: the first %(energy)s of %(window)s are free; what is left at its end expires."
            ) % {
                "name": allowance.label,
                "energy": fmt.energy_exact(allowance.free_wh, self.lang),
                "window": sentences.said(sentences.WINDOW_OF, allowance.window.value),
            }
        price = format_price(allowance.rebate_nano_per_kwh, currency=self.tariff.currency)
        return _("%(name)s: %(price)s off every kWh.") % {"name": allowance.label, "price": price}

    def bounds(self) -> Iterator[str]:
        if self.tariff.minimum:
            yield self._bound(
                self.tariff.minimum,
                _("At least %(amount)s for energy, standing charges and demand, before tax."),
            )
        if self.tariff.maximum:
            yield self._bound(
                self.tariff.maximum,
                _("At most %(amount)s for energy, standing charges and demand, before tax."),
            )
        if self.tariff.minimum or self.tariff.maximum:
            yield _(
                "The difference is settled after the last day; a part of the time counts by days."
            )

    def _bound(self, bound: Bound, text: str) -> str:
        return text % {
            "amount": amount_per(bound.amount_nano, bound.per.value, self.tariff.currency)
        }

    def demands(self) -> Iterator[str]:
        for demand in self.tariff.demand:
            yield from self._demand(demand)

    def _demand(self, demand: Demand) -> Iterator[str]:
        yield _(
            "%(name)s: %(price)s per kW and month, for the highest mean of any %(minutes)s minutes."
        ) % {
            "name": demand.label,
            "price": amount(demand.price_nano_per_kw, self.tariff.currency),
            "minutes": demand.interval_minutes,
        }
        if demand.bands:
            names = fmt.listed((self.names[band] for band in demand.bands), self.lang)
            yield _("It is looked at only in: %(bands)s.") % {"bands": names}
        if demand.ratchet_months:
            yield _("It is at least %(share)s of the highest of the %(months)s months before.") % {
                "share": fmt.percent(demand.ratchet_ppm),
                "months": demand.ratchet_months,
            }
        if demand.power_factor_ppm:
            factor = factor_text(demand.power_factor_ppm)
            yield _("It is raised where the power factor is below %(factor)s.") % {"factor": factor}

    def taxes(self) -> Iterator[str]:
        for tax in self.tariff.taxes:
            yield self._tax(tax)

    def _tax(self, tax: Tax) -> str:
        parts = [
            fmt.percent(tax.rate_ppm),
            sentences.said(
                sentences.TAX_FORM,
                ("inclusive" if tax.inclusive else "exclusive")
                + ("_compound" if tax.compound else ""),
            ),
        ]
        if len(tax.on) < len(Taxable):
            on = fmt.listed((str(sentences.TAXABLE_SAID[each.value]) for each in tax.on), self.lang)
            parts.append(_("for %(parts)s") % {"parts": on})
        if tax.valid_from:
            parts.append(_("from %(day)s") % {"day": fmt.full_date(tax.valid_from, self.lang)})
        if tax.valid_until:
            parts.append(_("until %(day)s") % {"day": fmt.full_date(tax.valid_until, self.lang)})
        return _("%(name)s: %(says)s.") % {"name": tax.label, "says": fmt.listed(parts, self.lang)}

    def overlays(self) -> Iterator[str]:
        for overlay in self.tariff.overlays:
            yield from (
                self._series(overlay)
                if overlay.kind is OverlayKind.REAL_TIME
                else self._events(overlay)
            )

    def _series(self, overlay: Overlay) -> Iterator[str]:
        yield _("Group %(group)s: the price announced for the hour, times %(share)s.") % {
            "group": overlay.group,
            "share": fmt.percent(overlay.share_ppm),
        }
        if overlay.adder_nano_per_kwh:
            yield _("%(price)s per kWh come on top.") % {
                "price": format_price(overlay.adder_nano_per_kwh, currency=self.tariff.currency)
            }
        yield _("Where nothing was announced, the band's own price holds.")

    def _events(self, overlay: Overlay) -> Iterator[str]:
        currency, group = self.tariff.currency, overlay.group
        if overlay.price_nano_per_kwh is not None:
            price = format_price(overlay.price_nano_per_kwh, currency=currency)
            yield _("Group %(group)s: %(price)s per kWh while a peak is announced.") % {
                "group": group,
                "price": price,
            }
        if overlay.adder_nano_per_kwh:
            price = format_price(overlay.adder_nano_per_kwh, currency=currency)
            yield _("Group %(group)s: %(price)s more per kWh while a peak is announced.") % {
                "group": group,
                "price": price,
            }
        if overlay.rebate_nano_per_kwh:
            price = format_price(overlay.rebate_nano_per_kwh, currency=currency)
            said = {
                "group": group,
                "price": price,
                "days": overlay.baseline_days,
                "highest": overlay.baseline_highest,
                "hours": overlay.wait_hours,
            }
            if overlay.baseline_highest:
                text = _(
                    "Group %(group)s: %(price)s back for each kWh used less than on the highest "
                    "%(highest)s of the %(days)s days before, paid %(hours)s hours after the peak."
                )
            else:
                text = _(
                    "Group %(group)s: %(price)s back for each kWh used less than on the %(days)s "
                    "days before, paid %(hours)s hours after the peak."
                )
            yield text % said

    def debt(self) -> Iterator[str]:
        debt = self.tariff.debt
        if debt is None:
            return
        share = fmt.percent(debt.share_ppm)
        if debt.weekly_cap_nano:
            yield _(
                "At most %(share)s of a recharge goes to an agreed debt, never more than %(cap)s a week."
            ) % {"share": share, "cap": amount(debt.weekly_cap_nano, self.tariff.currency)}
        else:
            yield _("At most %(share)s of a recharge goes to an agreed debt.") % {"share": share}

    def temporary(self) -> Iterator[str]:
        if self.tariff.temporary:
            yield from self._temporary(self.tariff.temporary)

    def _temporary(self, plan: Temporary) -> Iterator[str]:
        currency = self.tariff.currency
        if plan.fee_nano:
            yield _("The place costs %(amount)s for each started %(unit)s.") % {
                "amount": amount(plan.fee_nano, currency),
                "unit": _("hour") if plan.unit.value == "hour" else _("day"),
            }
        if plan.deposit_nano:
            yield _("A deposit of %(amount)s is returned at the end.") % {
                "amount": amount(plan.deposit_nano, currency)
            }
        if plan.season:
            yield _("The plan holds %(days)s and ends by itself; what is left is paid back.") % {
                "days": fmt.grid_days(season_ranges(plan.season), self.lang)
            }
        else:
            yield _("It ends by itself at the agreed time; what is left is paid back.")


def season_ranges(season: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """A season that may pass the new year, as ranges that do not."""
    begin, end = season
    return ((begin, end),) if begin < end else ((0, end), (begin, 366))
