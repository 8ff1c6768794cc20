"""What a proposal is about, in people's words: its title, and what it changes from what to what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.utils.functional import Promise
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from prewatt.reports.holders import Who
from prewatt.reports.proposals import ProposalPage, ProposalRow
from prewatt.reports.today import Place
from prewatt.tamper.policy import parse as parse_tamper
from prewatt.web.ui import fleet_words, key_words, money_words, rule_words, sentences, tamper_words
from prewatt.web.ui import format as fmt

Text = str | Promise

#: Every kind there is, in the order of the filter.
PROPOSAL_KIND: Final[Mapping[str, Text]] = {
    "billing.tariff": _("Price of a plan"),
    "billing.plans": _("Plan of accounts"),
    "billing.correction": _("Wrong plan put right"),
    "billing.terms": _("Terms of an account"),
    "debts.policy": _("What becomes a debt"),
    "mdm.edit": _("Reading put right"),
    "supply.rules": _("Supply rules"),
    "supply.brake": _("Mass-cut brake"),
    "supply.protection": _("Protected supply"),
    "supply.by_hand": _("Relay by hand"),
    "fleet.bulk": _("Order to many meters"),
    "tamper.policy": _("Tamper policy"),
    "approvals.ladder": _("Limits of amounts"),
    "api_keys.key": _("Key of a program"),
    "signing.key": _("Signing key"),
    "privacy.file": _("File of a customer"),
    "access.duty": _("Duty of a person"),
    "access.duty_end": _("End of a duty"),
    "vending.refund": _("Paying a refund out"),
    "vending.reversal": _("Taking a recharge back"),
    "vending.move": _("Moving credit to another account"),
    "debts.write_off": _("Writing a debt off"),
    "ledger.credit": _("Credit that nobody paid"),
    "access.group": _("Group of properties"),
}
#: What a ladder counts of a kind, and what the kind is called on the page of limits.
LADDER_KIND: Final[Mapping[str, Text]] = {
    "vending.refund": _("Paying a refund out"),
    "vending.reversal": _("Taking a recharge back"),
    "vending.move": _("Moving credit to another account"),
    "debts.write_off": _("Writing a debt off"),
    "ledger.credit": _("Credit that nobody paid"),
    "billing.plans": _("Another plan for accounts"),
    "fleet.bulk": _("Asking many meters"),
    "billing.correction": _("Putting a wrong plan right"),
    "billing.terms": _("Terms of an account"),
    "mdm.edit": _("Putting a reading right"),
}
#: Ladders of accounts or meters; all others are of money.
COUNTED: Final = frozenset({"billing.plans", "fleet.bulk"})


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that becomes another; without ``before`` it is a fact beside the change."""

    name: str
    before: str
    after: str


def title(row: ProposalRow, place: Place, lang: str) -> str:
    """What it asks for, in one line."""
    return _TITLES[row.kind](row, place, lang) if row.kind in _TITLES else row.kind


def lines(page: ProposalPage, lang: str) -> tuple[Line, ...]:
    """What it changes, thing by thing; empty for a kind that is shown in its own way."""
    row = page.proposal
    if page.rules is not None:
        return tuple(
            Line(each.name, each.before, each.after)
            for each in rule_words.differences(*page.rules, lang)
        )
    if row.kind in _PAGE_LINES:
        return tuple(_PAGE_LINES[row.kind](page, lang))
    return tuple(_LINES[row.kind](row, page.place, lang)) if row.kind in _LINES else ()


def people(count: int) -> str:
    """How many others agree, as a ladder says it."""
    if count == 0:
        return gettext("alone, with a second factor")
    return ngettext("%(n)s other person agrees", "%(n)s other people agree", count) % {"n": count}


def _holder(row: ProposalRow) -> str:
    return row.subject if row.who is None else _named(row.who)


def _named(who: Who) -> str:
    return f"{who.unit}, {who.customer}" if who.unit else who.number


def _point(text: str, place: Place, lang: str) -> str:
    at = fmt.local(datetime.fromisoformat(text), place.time_zone)
    return f"{fmt.full_date(at.date(), lang)} {at:%H:%M}"


def _tariff(row: ProposalRow, place: Place, lang: str) -> str:
    day = fmt.full_date(fmt.local(row.begins_at, place.time_zone).date(), lang)
    return gettext("%(code)s, version %(n)s, from %(day)s on") % {
        "code": row.code, "n": row.number, "day": day,
    }  # fmt: skip


def _plans(row: ProposalRow, _place: Place, _lang: str) -> str:
    count = len(row.effect["accounts"])
    if row.effect["withdraws"]:
        return gettext("Take the plan %(plan)s back from %(who)s") % {
            "plan": row.effect["name"], "who": _holder(row),
        }  # fmt: skip
    if count == 1:
        return gettext("%(plan)s for %(who)s") % {"plan": row.effect["name"], "who": _holder(row)}
    return gettext("%(plan)s for %(n)s accounts") % {"plan": row.effect["name"], "n": count}


def _correction(row: ProposalRow, _place: Place, _lang: str) -> str:
    return gettext("Put the plan of %(who)s right: %(plan)s") % {
        "who": _holder(row), "plan": row.effect["name"],
    }  # fmt: skip


def _terms(row: ProposalRow, _place: Place, _lang: str) -> str:
    if row.effect["withdraws"]:
        return gettext("Take terms of %(who)s back") % {"who": _holder(row)}
    return gettext("Other terms for %(who)s") % {"who": _holder(row)}


def _edit(row: ProposalRow, place: Place, lang: str) -> str:
    said = {"meter": row.effect["serial"], "at": _point(row.effect["read_at"], place, lang)}
    if row.effect["value"] is None:
        return gettext("Withdraw the reading of %(meter)s, %(at)s") % said
    return gettext("Put the reading of %(meter)s right, %(at)s") % said


def _signing(row: ProposalRow, _place: Place, _lang: str) -> str:
    if row.effect["do"] == "revoke":
        return gettext("Revoke the signing key %(key)s") % {"key": row.effect["key"]}
    return gettext("The next signing key: %(role)s") % {"role": key_words.ROLE[row.effect["role"]]}


def _brake(row: ProposalRow, _place: Place, _lang: str) -> str:
    if row.subject == "brake:release":
        return gettext("Release the mass-cut brake")
    return gettext("Put the mass-cut brake on")


def _protection(row: ProposalRow, _place: Place, _lang: str) -> str:
    if row.effect["protection"]:
        return gettext("Protect %(who)s") % {"who": _holder(row)}
    return gettext("End the protection of %(who)s") % {"who": _holder(row)}


def _by_hand(row: ProposalRow, _place: Place, _lang: str) -> str:
    said = {
        "closed": gettext("Keep %(who)s connected by hand"),
        "open": gettext("Keep %(who)s cut by hand"),
        "none": gettext("Leave %(who)s to the rules again"),
    }[row.effect["relay"]]
    return said % {"who": _holder(row)}


def _bulk(row: ProposalRow, _place: Place, _lang: str) -> str:
    what = fleet_words.REQUEST_KIND[fleet_words.KIND_OF[row.effect["do"]]]
    return ngettext("%(what)s: %(n)s meter", "%(what)s: %(n)s meters", row.amount) % {
        "what": what, "n": row.amount,
    }  # fmt: skip


def _ladder(row: ProposalRow, _place: Place, _lang: str) -> str:
    return gettext("Other limits: %(what)s") % {"what": LADDER_KIND[row.effect["of"]]}


def _money_title(row: ProposalRow, place: Place, _lang: str) -> str:
    amount = fmt.money(row.amount, place.currency)
    if row.kind == "ledger.credit" and row.effect["credit"] < 0:
        said = gettext("Take %(amount)s off the account of %(who)s")
    else:
        said = {
            "vending.refund": gettext("Pay %(amount)s to %(who)s"),
            "vending.reversal": gettext("Take a recharge of %(amount)s back from %(who)s"),
            "vending.move": gettext(
                "Move a recharge of %(amount)s from %(who)s to another account"
            ),
            "debts.write_off": gettext("Write %(amount)s off that %(who)s owes"),
            "ledger.credit": gettext("Give %(amount)s to %(who)s"),
        }[row.kind]
    return said % {"amount": amount, "who": _holder(row)}


_TITLES: Final[dict[str, Callable[[ProposalRow, Place, str], str]]] = {
    "billing.tariff": _tariff,
    "billing.plans": _plans,
    "billing.correction": _correction,
    "billing.terms": _terms,
    "debts.policy": lambda _row, _place, _lang: gettext("Another policy of what becomes a debt"),
    "mdm.edit": _edit,
    "supply.rules": lambda _row, _place, _lang: gettext("Other supply rules"),
    "supply.brake": _brake,
    "supply.protection": _protection,
    "supply.by_hand": _by_hand,
    "fleet.bulk": _bulk,
    "tamper.policy": lambda _row, _place, _lang: gettext("Another tamper policy"),
    "approvals.ladder": _ladder,
    "access.duty": lambda row, _place, _lang: (
        gettext("%(name)s as %(duty)s")
        % {"name": row.effect["name"], "duty": sentences.said(sentences.DUTY, row.effect["duty"])}
    ),
    "signing.key": _signing,
    "privacy.file": lambda row, _place, _lang: (
        gettext("All that is known of %(name)s, for %(who)s")
        % {"name": row.effect["name"], "who": row.effect["for"]}
    ),
    "access.duty_end": lambda row, _place, _lang: (
        gettext("%(name)s no longer as %(duty)s")
        % {"name": row.effect["name"], "duty": sentences.said(sentences.DUTY, row.effect["duty"])}
    ),
    "access.group": lambda row, _place, _lang: (
        gettext("The group %(name)s") % {"name": row.effect["name"]}
    ),
    "api_keys.key": lambda row, _place, _lang: (
        gettext("A key for %(name)s") % {"name": row.effect["name"]}
    ),
    **dict.fromkeys(
        ("vending.refund", "vending.reversal", "vending.move", "debts.write_off", "ledger.credit"),
        _money_title,
    ),
}


def _plan_lines(row: ProposalRow, place: Place, lang: str) -> list[Line]:
    effect = row.effect
    before = gettext(", ").join(effect["from"]) or gettext("none")
    after = effect["stays"] if effect["withdraws"] else effect["name"]
    found = [
        Line(gettext("Plan"), before, after),
        Line(gettext("From"), "", _point(effect["valid_from"], place, lang)),
        Line(gettext("Accounts"), "", str(len(effect["accounts"]))),
    ]
    if not effect["withdraws"]:
        before, after = (
            fmt.money(effect[each], place.currency) for each in ("pays_before", "pays_after")
        )
        together = gettext("Their last %(n)s days together") % {"n": effect["days"]}
        found += [
            Line(together, before, after),
            Line(gettext("Pay more"), "", str(effect["pay_more"])),
            Line(gettext("Pay less"), "", str(effect["pay_less"])),
        ]
    return found


def _correction_lines(row: ProposalRow, place: Place, lang: str) -> list[Line]:
    effect = row.effect
    before, after = (
        fmt.money(effect[each], place.currency) for each in ("charged_before", "charged_after")
    )
    return [
        Line(gettext("Plan"), gettext(", ").join(effect["from"]) or gettext("none"), effect["name"]),
        Line(gettext("From"), "", _point(effect["valid_from"], place, lang)),
        Line(gettext("Charged since then"), before, after),
        Line(
            gettext("Charges by the day, put right or fallen due"), "",
            fmt.money(effect["by_days"], place.currency),
        ),
    ]  # fmt: skip


def _edit_lines(row: ProposalRow, place: Place, lang: str) -> list[Line]:
    """The reading, the energy of the two intervals that touch it, and what they cost."""
    effect = row.effect

    def wh(name: str) -> str:
        return fmt.energy_wh(effect[name], lang)

    right = gettext("withdrawn") if effect["value"] is None else wh("value")
    found = [Line(gettext("Register"), wh("was"), right)]
    if effect["value"] is not None:
        found += [
            Line(gettext("From the reading before"), wh("before_was_wh"), wh("before_wh")),
            Line(gettext("Up to the reading after"), wh("after_was_wh"), wh("after_wh")),
        ]
    cost = (
        fmt.money(effect[each], place.currency)
        for each in ("charged_before_micro", "charged_after_micro")
    )
    return [
        *found,
        Line(gettext("Charged for that time"), *cost),
        Line(gettext("Number of the photo or note"), "", effect["proof"]),
    ]


def _terms_lines(row: ProposalRow, place: Place, lang: str) -> list[Line]:
    """The terms that differ, from when on, and what they come to."""
    effect, none = row.effect, gettext("none")

    def said(name: str, terms: Mapping[str, Any]) -> str:
        value = terms[name]
        if name == "contracted_w":
            return gettext("%(kw)s kW") % {"kw": f"{value / 1000:g}"} if value else none
        return str(value) if name == "members" else gettext(", ").join(value) or none

    found = [
        Line(str(name), said(key, effect["before"]), said(key, effect["terms"]))
        for key, name in _TERMS_NAMES.items()
        if effect["before"][key] != effect["terms"][key]
    ]
    found.append(Line(gettext("From"), "", _point(effect["valid_from"], place, lang)))
    if effect["days"]:
        before, after = (
            fmt.money(effect[each], place.currency) for each in ("pays_before", "pays_after")
        )
        found.append(Line(gettext("The last %(n)s days") % {"n": effect["days"]}, before, after))
    if effect["is_past"]:
        moves = fmt.signed_money(effect["moves"], place.currency)
        found.append(Line(gettext("Moves in the wallet, for days that are charged"), "", moves))
    return found


_TERMS_NAMES: Final[Mapping[str, Text]] = {
    "members": _("Persons"),
    "contracted_w": _("Contracted power"),
    "exempt": _("Exempt from"),
    "overlay_groups": _("Groups of prices"),
}


def _policy_lines(row: ProposalRow, place: Place, _lang: str) -> list[Line]:
    """What differs of the policy of debts."""

    def said(name: str, policy: Mapping[str, Any]) -> str:
        value = policy[name]
        match name:
            case "share_ppm":
                return fmt.percent(value)
            case "weekly_cap_micro":
                return fmt.money(value, place.currency) if value else gettext("none")
            case "later_let_pays":
                return gettext("yes") if value else gettext("no")
            case "let_shortfall":
                return sentences.said(money_words.SHORT, value)
        return sentences.said(money_words.MISSING, value)

    before, after = row.effect["before"], row.effect["policy"]
    return [
        Line(str(name), said(key, before), said(key, after))
        for key, name in _POLICY_NAMES.items()
        if before[key] != after[key]
    ]


_POLICY_NAMES: Final[Mapping[str, Text]] = {
    "reversed_payment": _("When a payment is reversed"),
    "moved_credit": _("When credit was on the wrong account"),
    "let_shortfall": _("When a let used more than was paid for it"),
    "later_let_pays": _("A later let pays former debts"),
    "share_ppm": _("Share of each recharge"),
    "weekly_cap_micro": _("Most in a week"),
}


def _brake_lines(row: ProposalRow, place: Place, lang: str) -> list[Line]:
    on, off = gettext("put on"), gettext("released")
    release = row.subject == "brake:release"
    found = [Line(gettext("Brake"), on if release else off, off if release else on)]
    if release:
        found.append(Line(gettext("On since"), "", _point(row.effect["since"], place, lang)))
    found.append(Line(gettext("Cuts that wait"), "", str(row.effect["waiting"])))
    return found


def _protection_lines(row: ProposalRow, _place: Place, _lang: str) -> list[Line]:
    before, after = (
        sentences.said(sentences.PROTECTION, row.effect[each] or "none")
        for each in ("before", "protection")
    )
    return [Line(gettext("Protection"), before, after)]


def _by_hand_lines(row: ProposalRow, place: Place, lang: str) -> list[Line]:
    relay = {
        "closed": gettext("connected"),
        "open": gettext("cut"),
        "none": gettext("by the rules"),
    }
    effect = row.effect
    found = [Line(gettext("Supply"), relay[effect["before"]], relay[effect["relay"]])]
    if effect["until"]:
        found.append(Line(gettext("Until"), "", _point(effect["until"], place, lang)))
    found.append(Line(gettext("Balance"), "", fmt.money(effect["available"], place.currency)))
    return found


def rung(kind: str, above: int, currency: str) -> str:
    """From where on a rung holds."""
    if kind == "fleet.bulk":
        said = ngettext("above %(n)s meter", "above %(n)s meters", above) % {"n": above}
    elif kind in COUNTED:
        said = ngettext("above %(n)s account", "above %(n)s accounts", above) % {"n": above}
    else:
        said = gettext("above %(amount)s") % {"amount": fmt.money(above, currency)}
    return said if above else gettext("from nothing on")


def _ladder_lines(row: ProposalRow, place: Place, _lang: str) -> list[Line]:
    kind = row.effect["of"]
    before = {above: people(count) for above, count in row.effect["before"]}
    after = {above: people(count) for above, count in row.effect["rungs"]}
    return [
        Line(rung(kind, above, place.currency), before.get(above, "–"), after.get(above, "–"))
        for above in sorted({*before, *after})
    ]


def _key_lines(row: ProposalRow, place: Place, lang: str) -> list[Line]:
    effect = row.effect
    return [
        Line(gettext("Key"), "", f"pwk_{effect['public_id']}_…"),
        Line(gettext("Duty"), "", sentences.said(sentences.DUTY, effect["duty"])),
        Line(
            gettext("What it may do"),
            "",
            gettext(", ").join(
                sentences.said(key_words.PERMISSION, each) for each in effect["permissions"]
            ),
        ),
        Line(gettext("Until"), "", _point(effect["expires_at"], place, lang)),
    ]


def _duty_lines(row: ProposalRow, _place: Place, _lang: str) -> list[Line]:
    duty = sentences.said(sentences.DUTY, row.effect["duty"])
    where = gettext("Duty at this property")
    if "group" in row.effect:
        where = gettext("Duty at every property of %(name)s") % {"name": row.effect["group_name"]}
    found = [
        Line(where, gettext("none"), duty),
        Line(gettext("Signs in as"), "", row.effect["email"]),
    ]
    if "group" in row.effect:
        found.append(Line(gettext("Properties"), "", gettext(", ").join(row.effect["names"])))
    return found


def _group_lines(row: ProposalRow, _place: Place, _lang: str) -> list[Line]:
    effect = row.effect

    def named(places: list[int]) -> str:
        return gettext(", ").join(sorted(effect["names"][str(each)] for each in places))

    found = [
        Line(gettext("Name"), effect["former_name"], effect["name"]),
        Line(gettext("Properties"), named(effect["before"]), named(effect["places"])),
    ]
    if effect["people"]:
        found.append(
            Line(gettext("Who has a duty by it"), "", gettext(", ").join(effect["people"]))
        )
    return found


def _signing_lines(row: ProposalRow, _place: Place, _lang: str) -> list[Line]:
    found = [Line(gettext("Signs"), "", str(key_words.ROLE[row.effect["role"]]))]
    if row.effect["do"] == "revoke":
        said = gettext("believed"), gettext("believed no more")
        found.append(Line(gettext("What it signed"), *said))
    else:
        found.append(
            Line(gettext("The key that signs"), gettext("this one"), gettext("the next one"))
        )
    how = gettext("at the machine, once, within seven days of the last yes")
    return [*found, Line(gettext("Done"), "", how)]


def _file_lines(row: ProposalRow, _place: Place, _lang: str) -> list[Line]:
    holds = gettext("every reading, charge, payment, message and document of theirs")
    taken = gettext("by who proposes it, three times at most, within seven days")
    return [
        Line(gettext("Customer"), "", row.effect["name"]),
        Line(gettext("Accounts"), "", str(len(row.effect["accounts"]))),
        Line(gettext("Who wants it"), "", row.effect["for"]),
        Line(gettext("What it holds"), "", holds),
        Line(gettext("Taken"), "", taken),
    ]


def _duty_end_lines(row: ProposalRow, _place: Place, _lang: str) -> list[Line]:
    duty = sentences.said(sentences.DUTY, row.effect["duty"])
    return [
        Line(gettext("Duty at this property"), duty, gettext("none")),
        Line(gettext("Signs in as"), "", row.effect["email"]),
    ]


def _bulk_lines(row: ProposalRow, place: Place, lang: str) -> list[Line]:
    """Whom it asks, how fast, and when it stops by itself."""
    effect = row.effect
    what = str(fleet_words.REQUEST_KIND[fleet_words.KIND_OF[effect["do"]]])
    found = [
        Line(gettext("Asked"), "", what),
        Line(gettext("Meters"), "", str(effect["amount"])),
        Line(gettext("Chosen by"), "", fleet_words.chosen(effect["chosen"], lang)),
        Line(gettext("Pace"), "", fleet_words.pace(effect["per_s"], effect["per_gateway_min"])),
        Line(
            gettext("Stops by itself"), "",
            gettext("when more than %(n)s %% fail") % {"n": effect["bound_percent"]},
        ),
    ]  # fmt: skip
    if effect["cannot"]:
        found.append(Line(gettext("Match, and cannot be asked this"), "", str(effect["cannot"])))
    if "from" in effect:
        span = f"{_point(effect['from'], place, lang)} – {_point(effect['to'], place, lang)}"
        found.append(Line(gettext("Readings of"), "", span))
    return found


def _refund_lines(page: ProposalPage, _lang: str) -> list[Line]:
    row, currency = page.proposal, page.place.currency
    how = sentences.said(money_words.REFUND_WAY, row.effect["way"])
    return [
        Line(gettext("Owed"), fmt.money(row.amount, currency), fmt.money(0, currency)),
        Line(gettext("How"), "", f"{how} {row.effect['reference']}".strip()),
    ]


def _taking_back_lines(page: ProposalPage, _lang: str) -> list[Line]:
    """What leaves which account, and what becomes of credit that is used by then."""
    row, currency = page.proposal, page.place.currency
    effect = row.effect
    found = [Line(gettext("Recharge"), fmt.money(row.amount, currency), fmt.money(0, currency))]
    if page.receiver is not None:
        found.append(Line(gettext("Goes to"), "", _named(page.receiver)))
    if effect["to_debts"]:
        back = fmt.money(effect["to_debts"], currency)
        found.append(Line(gettext("Of it, debts get back"), "", back))
    missing = {
        "debt": gettext("becomes a debt"),
        "loss": gettext("is borne by the property"),
        "refuse": gettext("then nothing is done"),
    }[effect["missing"]]
    return [
        *found,
        Line(gettext("What was used beyond emergency credit"), "", missing),
        *_balance(page),
    ]


def _write_off_lines(page: ProposalPage, _lang: str) -> list[Line]:
    row, currency = page.proposal, page.place.currency
    code, none = row.effect["code"], fmt.money(0, currency)
    return [Line(gettext("Debt %(code)s") % {"code": code}, fmt.money(row.amount, currency), none)]


def _credit_lines(page: ProposalPage, _lang: str) -> list[Line]:
    return _balance(page, page.proposal.effect["credit"])


def _balance(page: ProposalPage, more: int = 0) -> list[Line]:
    """The wallet as it stands now, and with so much more; nothing once the proposal has ended."""
    if page.available_micro is None:
        if not more:
            return []
        return [Line(gettext("Amount"), "", fmt.signed_money(more, page.place.currency))]
    now = fmt.money(page.available_micro, page.place.currency)
    if not more:
        return [Line(gettext("Balance now"), "", now)]
    after = fmt.money(page.available_micro + more, page.place.currency)
    return [Line(gettext("Balance"), now, after)]


def _tamper_lines(row: ProposalRow, _place: Place, _lang: str) -> list[Line]:
    before, after = (parse_tamper(row.effect[each]) for each in ("before", "policy"))
    found = [
        Line(
            str(name),
            str(tamper_words.RESPONSE[before.response_to(kind)]),
            str(tamper_words.RESPONSE[after.response_to(kind)]),
        )
        for kind, name in tamper_words.KIND.items()
        if before.response_to(kind) is not after.response_to(kind)
    ]
    if set(before.letters) != set(after.letters):
        letters = (
            gettext(", ").join(
                sentences.said(sentences.DUTY, each) for each in sorted(policy.letters)
            )
            or gettext("nobody")
            for policy in (before, after)
        )
        found.append(Line(gettext("Letters go to"), *letters))
    return found


#: Those that need more than the proposal's own row.
_PAGE_LINES: Final[dict[str, Callable[[ProposalPage, str], list[Line]]]] = {
    "vending.refund": _refund_lines,
    "vending.reversal": _taking_back_lines,
    "vending.move": _taking_back_lines,
    "debts.write_off": _write_off_lines,
    "ledger.credit": _credit_lines,
}
_LINES: Final[dict[str, Callable[[ProposalRow, Place, str], list[Line]]]] = {
    "billing.plans": _plan_lines,
    "billing.correction": _correction_lines,
    "billing.terms": _terms_lines,
    "debts.policy": _policy_lines,
    "mdm.edit": _edit_lines,
    "supply.brake": _brake_lines,
    "supply.protection": _protection_lines,
    "supply.by_hand": _by_hand_lines,
    "fleet.bulk": _bulk_lines,
    "tamper.policy": _tamper_lines,
    "approvals.ladder": _ladder_lines,
    "api_keys.key": _key_lines,
    "signing.key": _signing_lines,
    "privacy.file": _file_lines,
    "access.duty": _duty_lines,
    "access.duty_end": _duty_end_lines,
    "access.group": _group_lines,
}
