"""What a tariff charges besides energy, and what it gives back: standing charges, fees, minimum
and maximum, demand, taxes, allowances.

Every charge and allowance has a code of its own, by which transfers and statements name it. Lists
whose order says nothing are kept ordered by code, so that the same plan has one canonical form;
taxes keep the order of the document, because a compound tax is on those before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Final, TypeVar, cast

from prewatt.core.tariff.model import (
    Allowance,
    Band,
    Bound,
    Collect,
    DatedCharge,
    DatedKind,
    Demand,
    Per,
    Season,
    Tax,
    Taxable,
    UsageFee,
    Window,
)
from prewatt.core.tariff.reading import (
    choice,
    entries_of,
    entry_of,
    flag,
    label,
    mapping,
    only_one_of,
    sequence,
    shown,
    whole,
    word,
)
from prewatt.core.tariff.words import (
    MAX_AMOUNT_NANO,
    PPM,
    TariffRefused,
    factor_ppm,
    iso_date,
    nano,
    percent_text,
    positive_nano,
    positive_wh,
    ppm,
)

MAX_ENTRIES: Final = 16
"""Of each list of charges: more than any price sheet has, and few enough to add up in 64 bits."""
MAX_RATCHET_MONTHS: Final = 24
DEMAND_INTERVALS: Final = (5, 10, 15, 30, 60)
STANDING: Final = "standing"
"""The code and label of a standing charge that names none."""
PER: Final[Mapping[str, Per]] = {f"per_{per}": per for per in Per}
_MONTHS_PER_YEAR: Final = 12
_Coded = TypeVar("_Coded", DatedCharge, UsageFee, Demand, Allowance)


def standing_of(document: Mapping[str, object]) -> tuple[DatedCharge, ...]:
    """The standing charges; an amount of 0 is none."""
    if STANDING not in document:
        return ()
    value = document[STANDING]
    if isinstance(value, Mapping):
        return _without_zeros([_standing(value, STANDING)])
    items = sequence(value, STANDING, most=MAX_ENTRIES)
    return _without_zeros(_standing(item, f"{STANDING}[{i}]") for i, item in enumerate(items))


def fees_of(
    document: Mapping[str, object],
) -> tuple[tuple[DatedCharge, ...], tuple[UsageFee, ...]]:
    """The property's own fees: per time, and per kWh or as a share of the energy charge."""
    fees = entries_of(document, "fees", MAX_ENTRIES, _fee)
    dated = [fee for fee in fees if isinstance(fee, DatedCharge)]
    usage = [fee for fee in fees if isinstance(fee, UsageFee)]
    return _by_code(dated), _by_code(usage)


def bounds_of(document: Mapping[str, object]) -> tuple[Bound | None, Bound | None]:
    """The minimum and the maximum of a month's or year's bill."""
    minimum, maximum = (
        _bound(document[key], key) if key in document else None for key in ("minimum", "maximum")
    )
    if minimum and maximum and _per_year(minimum) > _per_year(maximum):
        raise TariffRefused("maximum", "must not be less than the minimum")
    return minimum, maximum


def demand_of(document: Mapping[str, object], bands: Sequence[Band]) -> tuple[Demand, ...]:
    """The demand charges."""
    names = [band.name for band in bands]
    demands = entries_of(
        document, "demand", MAX_ENTRIES, lambda item, place: _demand(item, place, names)
    )
    return _by_code(demands)


def allowances_of(
    document: Mapping[str, object], seasons: Sequence[Season]
) -> tuple[Allowance, ...]:
    """Free energy and rebates: one of each at most, since an account counts one window."""
    allowances = entries_of(document, "allowances", MAX_ENTRIES, _allowance)
    for form, found in (
        ("free_kwh", [each for each in allowances if each.free_wh]),
        ("per_kwh", [each for each in allowances if not each.free_wh]),
    ):
        if len(found) > 1:
            raise TariffRefused("allowances", f"must have at most one with {form}")
    if len(seasons) == 1 and any(each.window is Window.SEASON for each in allowances):
        raise TariffRefused("allowances", "with the window 'season' need at least two seasons")
    return _by_code(allowances)


def refuse_shared_codes(document: Mapping[str, object]) -> None:
    """A code names one charge, so that a transfer that carries it can be explained.

    Asked of a document whose parts have all been read.
    """
    seen: dict[object, str] = {}
    for key in (STANDING, "fees", "demand", "allowances"):
        value = document.get(key, ())
        items = {key: value} if isinstance(value, Mapping) else _places(key, value)
        for place, item in items.items():
            code = mapping(item, place).get("code", STANDING)
            if code in seen:
                raise TariffRefused(
                    f"{place}.code", f"{code!r} is the code of {seen[code]} already"
                )
            seen[code] = place


def taxes_of(document: Mapping[str, object]) -> tuple[Tax, ...]:
    """The taxes, in the order of the document."""
    taxes = entries_of(document, "taxes", MAX_ENTRIES, _tax)
    for index, tax in enumerate(taxes):
        place, before = f"taxes[{index}]", taxes[:index]
        if any(each.code == tax.code and _meet(each, tax) for each in before):
            raise TariffRefused(place, f"{tax.code!r} already holds in a part of these dates")
        if tax.compound and not any(set(each.on) & set(tax.on) for each in before):
            raise TariffRefused(f"{place}.compound", "needs a tax before it that is on the same")
        # A price cannot contain a tax on something that it does not contain.
        if tax.compound and tax.inclusive and (foreign := _exclusive_before(tax, before)):
            raise TariffRefused(
                f"{place}.inclusive", f"conflicts with {foreign!r} before it, which is not included"
            )
    _refuse_high_taxes(taxes)
    return taxes


def _standing(value: object, place: str) -> DatedCharge:
    entry = entry_of(value, place, optional={*PER, "code", "label", "collect"})
    code = word(entry.get("code", STANDING), f"{place}.code")
    return _dated(entry, place, DatedKind.STANDING, code)


def _fee(value: object, place: str) -> DatedCharge | UsageFee:
    forms = (*PER, "per_kwh", "share")
    entry = entry_of(
        value, place, needed={"code"}, optional={*PER, "per_kwh", "share", "label", "collect"}
    )
    form, code = only_one_of(entry, place, forms), word(entry["code"], f"{place}.code")
    if form in PER:
        charge = _dated(entry, place, DatedKind.FEE, code)
        if not charge.amount_nano:
            raise TariffRefused(f"{place}.{form}", "must be more than 0")
        return charge
    if "collect" in entry:
        raise TariffRefused(f"{place}.collect", "is for fees per day, month or year")
    named = label(entry, place, code)
    if form == "share":
        return UsageFee(code, named, 0, ppm(entry["share"], f"{place}.share"))
    return UsageFee(code, named, positive_nano(entry["per_kwh"], f"{place}.per_kwh"), 0)


def _dated(entry: Mapping[str, object], place: str, kind: DatedKind, code: str) -> DatedCharge:
    form = only_one_of(entry, place, tuple(PER))
    return DatedCharge(
        kind=kind,
        code=code,
        label=label(entry, place, code),
        per=PER[form],
        amount_nano=nano(entry[form], f"{place}.{form}", most=MAX_AMOUNT_NANO),
        collect=choice(entry.get("collect", Collect.DAILY), f"{place}.collect", Collect),
    )


def _bound(value: object, place: str) -> Bound:
    forms = ("per_month", "per_year")
    form = only_one_of(entry_of(value, place, optional=forms), place, forms)
    entry = mapping(value, place)
    return Bound(PER[form], positive_nano(entry[form], f"{place}.{form}", most=MAX_AMOUNT_NANO))


def _per_year(bound: Bound) -> int:
    return bound.amount_nano * (_MONTHS_PER_YEAR if bound.per is Per.MONTH else 1)


def _demand(value: object, place: str, names: Sequence[str]) -> Demand:
    entry = entry_of(
        value,
        place,
        needed={"code", "per_kw", "interval_minutes"},
        optional={"label", "bands", "ratchet", "power_factor"},
    )
    minutes = entry["interval_minutes"]
    if isinstance(minutes, bool) or minutes not in DEMAND_INTERVALS:
        raise TariffRefused(
            f"{place}.interval_minutes",
            f"must be one of {', '.join(map(str, DEMAND_INTERVALS))}, which divide an hour",
        )
    code = word(entry["code"], f"{place}.code")
    share, months = _ratchet(entry["ratchet"], f"{place}.ratchet") if "ratchet" in entry else (0, 0)
    return Demand(
        code=code,
        label=label(entry, place, code),
        price_nano_per_kw=positive_nano(entry["per_kw"], f"{place}.per_kw"),
        interval_minutes=DEMAND_INTERVALS[DEMAND_INTERVALS.index(minutes)],
        bands=_demand_bands(entry["bands"], f"{place}.bands", names) if "bands" in entry else (),
        ratchet_ppm=share,
        ratchet_months=months,
        power_factor_ppm=(
            factor_ppm(entry["power_factor"], f"{place}.power_factor")
            if "power_factor" in entry
            else 0
        ),
    )


def _ratchet(value: object, place: str) -> tuple[int, int]:
    entry = entry_of(value, place, needed={"share", "months"})
    months = whole(entry["months"], f"{place}.months", 1, MAX_RATCHET_MONTHS)
    return ppm(entry["share"], f"{place}.share"), months


def _demand_bands(value: object, place: str, names: Sequence[str]) -> tuple[int, ...]:
    """Sorted positions; all bands together are the same as saying none."""
    positions: set[int] = set()
    for name in sequence(value, place):
        if name not in names:
            raise TariffRefused(place, f"{shown(name)} is not a band of this tariff")
        positions.add(names.index(str(name)))
    return tuple(sorted(positions)) if len(positions) < len(names) else ()


def _tax(value: object, place: str) -> Tax:
    entry = entry_of(
        value,
        place,
        needed={"code", "rate"},
        optional={"label", "on", "inclusive", "compound", "from", "until"},
    )
    on = set(Taxable)
    if "on" in entry:
        on = {choice(item, f"{place}.on", Taxable) for item in sequence(entry["on"], f"{place}.on")}
    valid_from, valid_until = (
        iso_date(entry[key], f"{place}.{key}") if key in entry else None
        for key in ("from", "until")
    )
    if valid_from and valid_until and valid_until <= valid_from:
        raise TariffRefused(f"{place}.until", "must be later than 'from'")
    code = word(entry["code"], f"{place}.code")
    return Tax(
        code=code,
        label=label(entry, place, code),
        rate_ppm=ppm(entry["rate"], f"{place}.rate"),
        on=tuple(part for part in Taxable if part in on),
        inclusive=flag(entry, place, "inclusive"),
        compound=flag(entry, place, "compound"),
        valid_from=valid_from,
        valid_until=valid_until,
    )


def _begins(tax: Tax) -> date:
    return tax.valid_from or date.min


def _ends(tax: Tax) -> date:
    return tax.valid_until or date.max


def _meet(one: Tax, other: Tax) -> bool:
    return _begins(one) < _ends(other) and _begins(other) < _ends(one)


def _exclusive_before(tax: Tax, before: Sequence[Tax]) -> str | None:
    for each in before:
        if not each.inclusive and set(each.on) & set(tax.on) and _meet(each, tax):
            return each.code
    return None


def _refuse_high_taxes(taxes: Sequence[Tax]) -> None:
    """On no day may the taxes on a part of a bill come to more than the part itself."""
    for day in {_begins(tax) for tax in taxes}:
        for part in Taxable:
            holding = [t for t in taxes if part in t.on and _begins(t) <= day < _ends(t)]
            total = 0
            for tax in holding:
                total += tax.rate_ppm * (PPM + total if tax.compound else PPM) // PPM
            if total > PPM:
                raise TariffRefused(
                    "taxes", f"on {part} come to {percent_text(total)} %, which is more than 100 %"
                )


def _allowance(value: object, place: str) -> Allowance:
    entry = entry_of(
        value, place, needed={"code"}, optional={"label", "free_kwh", "window", "per_kwh"}
    )
    form = only_one_of(entry, place, ("free_kwh", "per_kwh"))
    code = word(entry["code"], f"{place}.code")
    named = label(entry, place, code)
    if form == "per_kwh":
        if "window" in entry:
            raise TariffRefused(f"{place}.window", "is for free energy; a rebate has none")
        rebate = positive_nano(entry["per_kwh"], f"{place}.per_kwh")
        return Allowance(code, named, 0, Window.MONTH, rebate)
    window = choice(entry.get("window", Window.MONTH), f"{place}.window", Window)
    if window is Window.PURCHASE:
        raise TariffRefused(
            f"{place}.window", "must not be 'purchase': every recharge would bring free energy"
        )
    return Allowance(code, named, positive_wh(entry["free_kwh"], f"{place}.free_kwh"), window, 0)


def _places(key: str, items: object) -> dict[str, object]:
    return {f"{key}[{index}]": item for index, item in enumerate(cast("Sequence[object]", items))}


def _without_zeros(charges: Iterable[DatedCharge]) -> tuple[DatedCharge, ...]:
    return _by_code(charge for charge in charges if charge.amount_nano)


def _by_code(charges: Iterable[_Coded]) -> tuple[_Coded, ...]:
    return tuple(sorted(charges, key=lambda charge: charge.code))
