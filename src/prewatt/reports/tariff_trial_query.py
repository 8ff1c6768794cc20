"""Reads the trials of a draft and joins the names of the accounts that they speak of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import numpy as np

from prewatt.access.scope import Actor, scope
from prewatt.billing.queries import HOLDS
from prewatt.billing.resale import resale_at
from prewatt.core.price_rules import Outcome, Rule, rule_document
from prewatt.core.tariff import parse_tariff
from prewatt.core.trial import NEVER, Trial, histogram, totals
from prewatt.reports.lists_query import actor_names
from prewatt.reports.place import NoSuchThing, json_of, rows
from prewatt.reports.tariff_changes import changes_between
from prewatt.reports.tariff_query import draft_page
from prewatt.reports.tariff_trial import (
    Group,
    RuleLine,
    Show,
    Sort,
    TrialAccount,
    TrialLine,
    TrialPage,
    TrialResult,
    Tried,
)
from prewatt.reports.units import unit_name

TRIALS_MAX = 20
UNITS_NAMED = 6
#: So many rows are shown at first, and never more than the limit of one answer.
PAGE = 50
PAGE_MAX = 20_000


def trial_page(
    *,
    actor: Actor,
    code: str,
    now: datetime,
    trial_id: int | None = None,
    group: Group | None = None,
    show: Show = Show.MORE,
    sort: Sort = Sort.CHANGE,
    query: str = "",
    limit: int = PAGE,
) -> TrialPage:
    """The draft of that code with one of its trials, by default the latest.

    ``group`` None is the accounts that are on this tariff now, or everybody where nobody is. Raises NoSuchThing for a draft or trial that is not there.
    """
    draft = draft_page(actor=actor, code=code, now=now)
    with scope(actor):
        trials = _trials(draft.draft.draft_id)
        chosen = [each for each in trials if trial_id is None or each.trial_id == trial_id]
        if trial_id is not None and not chosen:
            raise NoSuchThing(f"no trial {trial_id} of {code!r}")
        content, document = _content(chosen[0]) if chosen else (None, None)
        resale = resale_at(property_id=draft.place.property_id, at=now)
        waits = _waiting(draft.place.property_id, code, now)
        names: Mapping[int, _Name] = {}
        if document is not None:
            names = _names([int(each["account_id"]) for each in document["accounts"]], code, now)
    tariff = draft.tariff if content is None else parse_tariff(content)
    result = None
    if document is not None:
        rules = () if resale is None else resale.pack.rules
        result = _result(document, names, rules, group, _Choice(show, sort, query, limit))
    return TrialPage(
        place=draft.place,
        now=now,
        draft=draft.draft,
        next_number=draft.next_number,
        in_force_number=draft.in_force_number,
        in_force=draft.in_force,
        trials=trials,
        trial=chosen[0] if chosen else None,
        tariff=tariff,
        changes=changes_between(draft.in_force, tariff) if draft.in_force else (),
        rules_name="" if resale is None else resale.pack.name,
        rules_source="" if resale is None else resale.pack.source,
        result=result,
        waits=waits,
    )


def tried_on(draft_id: int, edition: int, code: str, now: datetime) -> Tried | None:
    """What the latest trial of an edition came to, None where there is none; in the caller's scope."""
    found = rows(
        """SELECT days, result FROM tariff_trial
           WHERE draft_id = %s AND edition = %s AND state = 'done' ORDER BY id DESC LIMIT 1""",
        [draft_id, edition],
    )
    if not found:
        return None
    days, result = found[0][0], json_of(found[0][1])
    names = _names([int(each["account_id"]) for each in result["accounts"]], code, now)
    whole = _result(result, names, (), None, _Choice(Show.ALL, Sort.UNIT, "", 1))
    return Tried(days, whole.totals)


def _waiting(property_id: int, code: str, now: datetime) -> int | None:
    """The proposal of this tariff that waits for a second person, if there is one."""
    found = rows(
        """SELECT id FROM proposal WHERE property_id = %s AND kind = 'billing.tariff'
             AND subject = 'tariff:' || %s AND state = 'open' AND expires_at > %s""",
        [property_id, code, now],
    )
    return int(found[0][0]) if found else None


class _Choice:
    """Which accounts are listed, and in which order."""

    def __init__(self, show: Show, sort: Sort, query: str, limit: int) -> None:
        self.show, self.sort, self.limit = show, sort, max(1, min(limit, PAGE_MAX))
        self.words = query.casefold().split()

    def takes(self, row: TrialAccount) -> bool:
        text = f"{row.unit} {row.customer} {row.number}".casefold()
        return _SHOWN[self.show](row) and all(word in text for word in self.words)

    def sorted(self, found: Sequence[TrialAccount]) -> list[TrialAccount]:
        return sorted(found, key=_SORTED[self.sort])


_SHOWN: Mapping[Show, Callable[[TrialAccount], bool]] = {
    Show.ALL: lambda _row: True,
    Show.MORE: lambda row: row.change_micro > 0,
    Show.LESS: lambda row: row.change_micro < 0,
    Show.SAME: lambda row: row.change_micro == 0,
    Show.CUT: lambda row: row.would_be_cut,
}
_SORTED: Mapping[Sort, Callable[[TrialAccount], Any]] = {
    Sort.CHANGE: lambda row: (-row.change_micro, row.unit),
    Sort.SHARE: lambda row: (-(row.change_ppm or 0), row.unit),
    Sort.BEFORE: lambda row: (-row.before_micro, row.unit),
    Sort.UNIT: lambda row: (row.unit, row.account_id),
}

#: Number, unit, customer, and whether the account is on the draft's tariff now.
_Name = tuple[str, str, str, bool]


def _trials(draft_id: int) -> tuple[TrialLine, ...]:
    """The latest trials of a draft, latest first."""
    found = rows(
        """SELECT id, edition, days, state, accounts_done, accounts_total, failure, asked_by,
                  asked_at, finished_at
           FROM tariff_trial WHERE draft_id = %s ORDER BY id DESC LIMIT %s""",
        [draft_id, TRIALS_MAX],
    )
    names = actor_names(row[7] for row in found)
    return tuple(
        TrialLine(
            trial_id, edition, days, state, done, total, failure, names.get(asked_by, asked_by),
            asked_at, finished_at,
        )
        for trial_id, edition, days, state, done, total, failure, asked_by, asked_at, finished_at
        in found
    )  # fmt: skip


def _content(trial: TrialLine) -> tuple[Any, Any]:
    """The plan that was tried, and the result, None until it is there."""
    content, result = rows(
        "SELECT content, result FROM tariff_trial WHERE id = %s", [trial.trial_id]
    )[0]
    return json_of(content), None if result is None else json_of(result)


def _names(account_ids: Sequence[int], code: str, now: datetime) -> dict[int, _Name]:
    """What accounts are known by: the unit that they pay for, or paid for last."""
    found = rows(
        f"""SELECT a.id, a.number, coalesce(b.code, ''), coalesce(u.code, a.number),
                  coalesce(c.name, ''), coalesce(p.code = %(code)s, false)
           FROM account a
           LEFT JOIN customer c ON c.id = a.customer_id
           LEFT JOIN LATERAL (SELECT unit_id FROM tenancy t WHERE t.account_id = a.id
               ORDER BY lower(t.period) DESC LIMIT 1) h ON true
           LEFT JOIN unit u ON u.id = coalesce(h.unit_id, a.unit_id)
           LEFT JOIN building b ON b.id = u.building_id
           LEFT JOIN LATERAL (SELECT t.code FROM tariff_assignment s JOIN tariff t ON t.id = s.tariff_id
               WHERE s.account_id = a.id AND s.valid_from <= %(now)s AND {HOLDS}
               ORDER BY s.valid_from DESC LIMIT 1) p ON true
           WHERE a.id = ANY(%(accounts)s)""",  # noqa: S608 - our own constants
        {"accounts": list(account_ids), "code": code, "now": now},
    )
    return {row[0]: (row[1], unit_name(row[2], row[3]), row[4], row[5]) for row in found}


def _result(
    document: Mapping[str, Any],
    names: Mapping[int, _Name],
    rules: Sequence[Rule],
    group: Group | None,
    choice: _Choice,
) -> TrialResult:
    everybody = [_account(each, names) for each in document["accounts"]]
    own = [row for row in everybody if names.get(row.account_id, _NOBODY)[3]]
    group = group or (Group.OWN if own else Group.ALL)
    accounts = own if group is Group.OWN else everybody
    trial = _trial(accounts)
    chosen = choice.sorted([row for row in accounts if choice.takes(row)])
    more = [row for row in accounts if row.change_micro > 0]
    return TrialResult(
        begins=date.fromisoformat(document["from"]),
        until=date.fromisoformat(document["until"]),
        group=group,
        own=len(own),
        everybody=len(everybody),
        totals=totals(trial),
        bins=histogram(trial),
        rows=tuple(chosen[: choice.limit]),
        found=len(chosen),
        largest=max(more, key=lambda row: row.change_micro, default=None),
        more_micro=sum(row.change_micro for row in more),
        rules=_rules(document, rules, {row.account_id: row for row in accounts}),
        left_out=tuple(document.get("left_out", ())),
    )


_NOBODY: _Name = ("", "", "", False)


def _trial(accounts: Sequence[TrialAccount]) -> Trial:
    """The accounts as columns; which day a cut fell on does not matter to sums."""
    return Trial(
        charged=np.array([row.before_micro for row in accounts], dtype=np.int64),
        drafted=np.array([row.after_micro for row in accounts], dtype=np.int64),
        first_cut_day=np.array(
            [NEVER if row.first_cut_day is None else 0 for row in accounts], dtype=np.int64
        ),
        was_cut=np.array([row.was_cut for row in accounts], dtype=np.bool_),
    )


def _account(each: Mapping[str, Any], names: Mapping[int, _Name]) -> TrialAccount:
    number, unit, customer, _ = names.get(each["account_id"], _NOBODY)
    cut = each["first_cut_day"]
    return TrialAccount(
        each["account_id"], number, unit, customer, each["energy_wh"], each["charged"],
        each["drafted"], None if cut is None else date.fromisoformat(cut), each["was_cut"],
    )  # fmt: skip


def _rules(
    document: Mapping[str, Any],
    rules: Sequence[Rule],
    accounts: Mapping[int, TrialAccount],
) -> tuple[RuleLine, ...]:
    """Every rule of the place: broken or not known as the trial found; else it holds, if the trial looked at it.

    Rules may have come, or become stricter, since the trial; and one that names only its findings says
    nothing of the others. A cap that is broken only by accounts outside the group holds for the group.
    """
    found = {each["code"]: each for each in document["findings"]}
    looked_at = document.get("rules")
    return tuple(
        _rule(rule, found.get(rule.code), accounts)
        if (rule.code in found if looked_at is None else rule_document(rule) in looked_at)
        else _not_looked_at(rule)
        for rule in rules
    )


def _not_looked_at(rule: Rule) -> RuleLine:
    return RuleLine(rule.code, rule.text, rule.severity, None, rule.at_most_ppm, is_looked_at=False)


def _rule(
    rule: Rule, finding: Mapping[str, Any] | None, accounts: Mapping[int, TrialAccount]
) -> RuleLine:
    whole = [] if finding is None else finding["account_ids"]
    above = [accounts[each] for each in whole if each in accounts]
    if finding is None or (whole and not above):
        return RuleLine(rule.code, rule.text, rule.severity, None, rule.at_most_ppm)
    return RuleLine(
        code=rule.code,
        text=rule.text,
        severity=rule.severity,
        outcome=Outcome(finding["outcome"]),
        why=str(finding.get("why", "")),
        at_most_ppm=rule.at_most_ppm,
        # The worst ratio may be that of an account outside the group.
        measured_ppm=finding["measured_ppm"] if len(above) == len(whole) else None,
        accounts=len(above),
        units=tuple(row.unit for row in above[:UNITS_NAMED]),
    )
