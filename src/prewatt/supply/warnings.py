"""What customers are told of a low balance: one warning at a time, true when it is read.

A warning may wait, for the morning, for a mail server or for an address, while the balance moves.
A payment takes back what is not true any more; a fall through a deeper level takes the place of
what waits. Whoever is still low stays owed a warning, with the figures of now.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from prewatt.core.civil_time import instant_us
from prewatt.core.credit import notice_ends_us
from prewatt.core.cut_window import earliest_cut_us
from prewatt.core.levels import Level, level_amount_micro
from prewatt.core.vocabulary import LevelKind, Protection
from prewatt.notify.operations import NewMessage, enqueue, restate, withdraw
from prewatt.notify.queries import WaitingMessage, waiting
from prewatt.notify.sentences import WARNINGS
from prewatt.supply.cases import TAKEN_BACK, Case

#: Levels whose warning passes quiet hours: supply itself is in question.
_LAST: Final = (LevelKind.EMERGENCY, LevelKind.EXHAUSTED)


def settle_warnings(cases: Sequence[Case], *, trigger: str, now: datetime) -> None:
    """Make the warnings that wait agree with the balances, and queue those that are due.

    Set-based, in the caller's transaction, which holds the accounts' locks; nothing is asked of the
    database where no level had fired and none fires. What would have been said (a case that is not
    live) touches nothing that waits.
    """
    owed = {case.account_id: (case, case.due) for case in cases}
    kept: list[WaitingMessage] = []
    changed = {case.account_id: case for case in cases if _may_change(case, trigger)}
    waits = _waiting_of(list(changed))
    for key, mine in waits.items():
        level = _deepest_fired(changed[key])
        # Of what was taken back a warning from before says nothing, and it counts for no cut.
        still_true = [] if trigger == TAKEN_BACK else _still_true(changed[key], mine, level)
        kept += still_true
        owed[key] = (changed[key], None if still_true else level)
    if waits:
        keep = [each.message_id for each in kept]
        withdraw(account_ids=list(waits), codes=WARNINGS, now=now, keep=keep)
        restate(messages=kept)
    _enqueue([(case, level) for case, level in owed.values() if level is not None], trigger)


def _may_change(case: Case, trigger: str) -> bool:
    """Whether a warning that waits may be untrue by now; only a fired level has one."""
    before = case.standing.fired_mask
    moved = trigger == "credit" or case.due is not None or before & ~case.fired_mask != 0
    return case.is_live and before != 0 and moved


def _waiting_of(account_ids: Sequence[int]) -> Mapping[int, list[WaitingMessage]]:
    mine: dict[int, list[WaitingMessage]] = defaultdict(list)
    for each in waiting(account_ids, WARNINGS):
        mine[each.account_id].append(each)
    return mine


def _still_true(
    case: Case, mine: Sequence[WaitingMessage], level: Level | None
) -> list[WaitingMessage]:
    """What of the waiting warnings stands, with the figures of now.

    Only while credit stays exhausted: a payment too little to change that must not take away the
    tries that were made. In any other case a fresh warning says it better.
    """
    if level is None or not case.is_exhausted:
        return []
    about = [each for each in mine if each.detail.get("level_no") == level.level_no]
    return [replace(each, detail=_detail(case, level)) for each in about]


def _enqueue(owed: Sequence[tuple[Case, Level]], trigger: str) -> None:
    by_instant: dict[datetime, list[NewMessage]] = defaultdict(list)
    for case, level in owed:
        by_instant[case.as_of].append(_warning(case, level, trigger))
    for at, messages in sorted(by_instant.items()):
        enqueue(messages=messages, now=at)


def _deepest_fired(case: Case) -> Level | None:
    """The level of the lowest amount among those that have fired; None when none has."""
    _, spend, emergency = case.amounts
    fired = [each for each in case.rules.levels.levels if case.fired_mask >> each.level_no & 1]
    return min(
        fired,
        key=lambda each: (level_amount_micro(each, spend, emergency), -each.kind, -each.level_no),
        default=None,
    )


def _warning(case: Case, level: Level, trigger: str) -> NewMessage:
    return NewMessage(
        property_id=case.standing.property_id,
        account_id=case.account_id,
        code="supply.warning",
        detail=_detail(case, level),
        dedupe_key=f"level:{level.level_no}:{instant_us(case.as_of)}:{trigger}",
        urgent=level.kind in _LAST,
        would_have=not case.is_live,
    )


def _detail(case: Case, level: Level) -> Mapping[str, object]:
    """The figures of a warning, as they are now."""
    standing = case.standing
    return {
        "level_kind": level.kind.word,
        "level_no": level.level_no,
        "available_micro": standing.available_micro,
        "emergency_micro": standing.emergency_micro,
        "days_left_h": standing.left_h,
        "currency": case.rules.currency,
        "earliest_cut_us": _earliest_cut_us(case) if level.kind in _LAST else None,
    }


def _earliest_cut_us(case: Case) -> int | None:
    """As the account's page has it: when the window is open, and not while credit or the notice lasts."""
    standing = case.standing
    if standing.protection is not Protection.NONE:
        return None
    return earliest_cut_us(
        case.rules.supply.window,
        instant_us(case.as_of),
        standing.available_micro + standing.emergency_micro,
        standing.spend_per_day_micro,
        notice_ends_us(instant_us(case.low_since or case.as_of), case.rules.supply),
    )
