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
from prewatt.core.cut_window import next_open_at_us
from prewatt.core.levels import Level, level_amount_micro
from prewatt.core.vocabulary import LevelKind
from prewatt.notify.operations import NewMessage, enqueue, restate, withdraw
from prewatt.notify.queries import WaitingMessage, waiting
from prewatt.notify.sentences import WARNINGS
from prewatt.supply.cases import Case

#: Levels whose warning passes quiet hours: supply itself is in question.
_LAST: Final = (LevelKind.EMERGENCY, LevelKind.EXHAUSTED)


def settle_warnings(cases: Sequence[Case], *, after_credit: bool, now: datetime) -> None:
    """Make the warnings that wait agree with the balances, and queue those that are due.

    Set-based, in the caller's transaction, which holds the accounts' locks. What would have been
    said (a case that is not live) touches nothing that waits.
    """
    owed = [(case, case.due) for case in cases if case.due is not None]
    withdrawn: list[int] = []
    kept: list[WaitingMessage] = []
    for case, mine in _with_waiting(cases, after_credit=after_credit):
        if after_credit:
            withdrawn.append(case.account_id)
            still_true, level = _after_credit(case, mine)
            kept += still_true
            owed += [] if level is None else [(case, level)]
        elif case.due == _deepest_fired(case):
            # A level in days that fires by a new pace alone may lie above one that still waits.
            withdrawn.append(case.account_id)
    if withdrawn:
        keep = [each.message_id for each in kept]
        withdraw(account_ids=withdrawn, codes=WARNINGS, now=now, keep=keep)
        restate(messages=kept)
    _enqueue(owed, after_credit=after_credit)


def _after_credit(
    case: Case, mine: Sequence[WaitingMessage]
) -> tuple[list[WaitingMessage], Level | None]:
    """What of the waiting warnings is still true, and else the level to warn of instead."""
    level = _deepest_fired(case)
    if level is None or not case.is_exhausted:
        return [], level
    # Too little to change what the warning is about: it stands, and its tries go on counting.
    detail = _detail(case, level)
    about = [each for each in mine if each.detail.get("level_no") == level.level_no]
    return [replace(each, detail=detail) for each in about], None


def _enqueue(owed: Sequence[tuple[Case, Level]], *, after_credit: bool) -> None:
    by_instant: dict[datetime, list[NewMessage]] = defaultdict(list)
    for case, level in owed:
        occasion = "credit" if after_credit else "live" if case.is_live else "would"
        by_instant[case.as_of].append(_warning(case, level, occasion))
    for at, messages in sorted(by_instant.items()):
        enqueue(messages=messages, now=at)


def _with_waiting(
    cases: Sequence[Case], *, after_credit: bool
) -> list[tuple[Case, list[WaitingMessage]]]:
    """The live cases whose warnings may have changed, each with those that wait, oldest first."""
    asked = {
        case.account_id: case
        for case in cases
        if case.is_live and (after_credit or case.due is not None)
    }
    mine: dict[int, list[WaitingMessage]] = defaultdict(list)
    for each in waiting(list(asked), WARNINGS):
        mine[each.account_id].append(each)
    return [(asked[key], messages) for key, messages in mine.items()]


def _deepest_fired(case: Case) -> Level | None:
    """The level of the lowest amount among those that have fired; None when none has."""
    _, spend, emergency = case.amounts
    fired = [each for each in case.rules.levels.levels if case.fired_mask >> each.level_no & 1]
    return min(
        fired,
        key=lambda each: (level_amount_micro(each, spend, emergency), -each.kind, -each.level_no),
        default=None,
    )


def _warning(case: Case, level: Level, occasion: str) -> NewMessage:
    return NewMessage(
        property_id=case.standing.property_id,
        account_id=case.account_id,
        code="supply.warning",
        detail=_detail(case, level),
        dedupe_key=f"level:{level.level_no}:{instant_us(case.as_of)}:{occasion}",
        urgent=level.kind in _LAST,
        would_have=not case.is_live,
    )


def _detail(case: Case, level: Level) -> Mapping[str, object]:
    """The figures of a warning, as they are now."""
    standing, window = case.standing, case.rules.supply.window
    spend = standing.spend_per_day_micro
    left_h = max(standing.available_micro, 0) * 24 // spend if spend > 0 else None
    is_last = level.kind in _LAST
    return {
        "level_kind": level.kind.word,
        "level_no": level.level_no,
        "available_micro": standing.available_micro,
        "emergency_micro": standing.emergency_micro,
        "days_left_h": left_h,
        "currency": case.rules.currency,
        "earliest_cut_us": next_open_at_us(window, instant_us(case.as_of)) if is_last else None,
    }
