"""Low-balance levels: which warning is due, and the amount at which to look again.

A property has several levels, by money left or by days left. A level fires once when the balance
reaches it, and again only after the balance has risen above it by a margin (hysteresis): warnings
that "arrive again and again" are as useless as none. The ingest path must not evaluate levels per
reading, so the highest level still ahead is turned into one amount, ``next_watch_below_micro``: an
account is looked at again only when its available balance is *below* that amount.

Money is int64 micro-units; days left are kept in hours. The levels already fired travel as a bit
mask (bit n for the level numbered n), small enough for one column of ``account_state``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from prewatt.core.bounds import INT64_MIN, Int64
from prewatt.core.vocabulary import LevelKind

LEVELS_MAX: Final = 14
HOURS_PER_DAY: Final = 24

#: A watch that can never be crossed: no level is left below the present balance.
NEVER: Final = INT64_MIN
#: Of larger amounts a set of accounts is not computed, lest a product wrap around.
_OF_A_SET_MAX: Final = 2**60


class LevelsInvalid(ValueError):
    """A property's levels cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level. ``level_no`` (0 to 13) is its bit; it stays with the level when others change.

    MONEY uses ``threshold_micro``; DAYS uses ``threshold_h``, hours of use at the account's own
    pace; EMERGENCY (zero) and EXHAUSTED (emergency credit used up) need neither.
    """

    level_no: int
    kind: LevelKind
    threshold_micro: int = 0
    threshold_h: int = 0


@dataclass(frozen=True, slots=True)
class LevelsPolicy:
    """A property's levels with the margin above which a fired level may fire again.

    The margin is ``margin_bp`` ten-thousandths of the level's amount, at least ``margin_micro``.
    Raises `LevelsInvalid`.
    """

    levels: tuple[Level, ...]
    margin_bp: int = 1_000
    margin_micro: int = 500_000

    def __post_init__(self) -> None:
        numbers = [level.level_no for level in self.levels]
        if len(set(numbers)) != len(numbers):
            raise LevelsInvalid("two levels share a number")
        if not all(0 <= number < LEVELS_MAX for number in numbers):
            raise LevelsInvalid(f"levels are numbered 0 to {LEVELS_MAX - 1}")
        if any(level.threshold_micro < 0 or level.threshold_h < 0 for level in self.levels):
            raise LevelsInvalid("a level is never negative: credit below zero is emergency credit")
        if self.margin_bp < 0 or self.margin_micro < 0:
            raise LevelsInvalid("the margin is never negative")


@dataclass(frozen=True, slots=True)
class LevelsResult:
    """What a look at an account's levels came to.

    ``due`` is the most serious level that fired just now: one message, however many levels a large
    charge jumped over. ``fired_mask`` and ``watch_below_micro`` are what to store.
    """

    fired: tuple[Level, ...]
    cleared: tuple[Level, ...]
    fired_mask: int
    watch_below_micro: int

    @property
    def due(self) -> Level | None:
        """Return the level to send a message about, or None."""
        return self.fired[-1] if self.fired else None


def level_amount_micro(level: Level, spend_per_day_micro: int, emergency_credit_micro: int) -> int:
    """Return the available balance at or below which a level fires."""
    match level.kind:
        case LevelKind.MONEY:
            return level.threshold_micro
        case LevelKind.DAYS:
            # Rounded up: a warning may come a moment early, never late.
            return -(-level.threshold_h * max(spend_per_day_micro, 0) // HOURS_PER_DAY)
        case LevelKind.EMERGENCY:
            return 0
        case LevelKind.EXHAUSTED:
            return -emergency_credit_micro


def evaluate_levels(
    available_micro: int,
    spend_per_day_micro: int,
    emergency_credit_micro: int,
    policy: LevelsPolicy,
    fired_mask: int,
) -> LevelsResult:
    """Return the levels that fire or clear now, the new mask and the next amount to watch.

    ``fired`` is ordered from the highest amount to the lowest, so the last is the most serious.
    """
    amounts = _amounts(policy.levels, spend_per_day_micro, emergency_credit_micro)
    fired, cleared = [], []
    for amount, level in amounts:
        bit = 1 << level.level_no
        if available_micro <= amount and not fired_mask & bit:
            fired.append(level)
            fired_mask |= bit
        elif fired_mask & bit and available_micro > amount + _margin(amount, policy):
            cleared.append(level)
            fired_mask &= ~bit
    # A level that the policy no longer has leaves no bit behind, or its number could not be reused.
    fired_mask &= sum(1 << level.level_no for level in policy.levels)
    watch = next_watch_below_micro(
        available_micro, spend_per_day_micro, emergency_credit_micro, policy, fired_mask
    )
    return LevelsResult(tuple(fired), tuple(cleared), fired_mask, watch)


def rearm_after_credit(
    available_micro: int,
    spend_per_day_micro: int,
    emergency_credit_micro: int,
    policy: LevelsPolicy,
    fired_mask: int,
) -> int:
    """Return the mask after money came in: every level below the balance may fire again.

    The margin is against a balance that trembles around a level. A payment is no tremble: whoever
    pays a little and runs out again is owed a new warning before the next cut.
    """
    for amount, level in _amounts(policy.levels, spend_per_day_micro, emergency_credit_micro):
        if available_micro > amount:
            fired_mask &= ~(1 << level.level_no)
    return fired_mask


def next_watch_below_micro(
    available_micro: int,
    spend_per_day_micro: int,
    emergency_credit_micro: int,
    policy: LevelsPolicy,
    fired_mask: int,
) -> int:
    """Return W such that an account is looked at again when ``available < W``.

    W lies one micro-unit above the highest amount that has not fired, as a level is reached at
    equality; a level that is reached and has not fired makes the account be looked at next time. The exhaustion of emergency credit is always watched while it lies ahead, whether or
    not a level of that kind exists, because supply is decided there. `NEVER` when nothing is ahead.
    """
    ahead = [
        amount
        for amount, level in _amounts(policy.levels, spend_per_day_micro, emergency_credit_micro)
        if not fired_mask & (1 << level.level_no)
    ]
    if -emergency_credit_micro < available_micro:
        ahead.append(-emergency_credit_micro)
    return max(ahead) + 1 if ahead else NEVER


def still_levels(
    available_micro: Int64,
    spend_per_day_micro: Int64,
    emergency_credit_micro: Int64,
    policy: LevelsPolicy,
    fired_mask: Int64,
) -> tuple[npt.NDArray[np.bool_], Int64]:
    """Of a set of accounts: at whom `evaluate_levels` would fire and clear nothing, and their watches.

    The watch is what `next_watch_below_micro` says, and holds where the first is true. Amounts that are
    too large for a set are never said to be still: each of them is looked at by itself.
    """
    columns = available_micro, spend_per_day_micro, emergency_credit_micro
    limit = _limit_of_set(policy)
    if limit == 0:
        return np.zeros(available_micro.size, dtype=np.bool_), available_micro
    still = np.all([(-limit < each) & (each < limit) for each in columns], axis=0)
    available, spend, emergency = (np.where(still, each, 0) for each in columns)
    watch = np.where(-emergency < available, 1 - emergency, NEVER)
    known = 0
    for level in policy.levels:
        known |= 1 << level.level_no
        amount = _amount_of_set(level, spend, emergency)
        margin = np.maximum(amount * policy.margin_bp // 10_000, policy.margin_micro)
        has = emergency > 0 if level.kind is LevelKind.EMERGENCY else np.True_
        is_fired = fired_mask >> level.level_no & 1 == 1
        moves = np.where(is_fired, available > amount + margin, available <= amount)
        still &= ~(has & moves)
        watch = np.where(has & ~is_fired, np.maximum(watch, amount + 1), watch)
    return still & (fired_mask & ~known == 0), watch


def _limit_of_set(policy: LevelsPolicy) -> int:
    """Below what amounts no product of these levels can wrap around; 0 where their own could."""
    hours = max([level.threshold_h for level in policy.levels], default=0)
    limit = _OF_A_SET_MAX // max(policy.margin_bp, 1) // max(hours, 1)
    own = [policy.margin_micro, *[level.threshold_micro for level in policy.levels]]
    return limit if max(own) < limit else 0


def _amount_of_set(level: Level, spend: Int64, emergency: Int64) -> Int64:
    match level.kind:
        case LevelKind.MONEY:
            return np.full_like(spend, level.threshold_micro)
        case LevelKind.DAYS:
            return -(-level.threshold_h * np.maximum(spend, 0) // HOURS_PER_DAY)
        case LevelKind.EMERGENCY:
            return np.zeros_like(spend)
        case LevelKind.EXHAUSTED:
            return -emergency


def _amounts(
    levels: Sequence[Level], spend_per_day_micro: int, emergency_credit_micro: int
) -> list[tuple[int, Level]]:
    pairs = (
        (level_amount_micro(level, spend_per_day_micro, emergency_credit_micro), level)
        for level in levels
        # Without emergency credit there is nothing to begin at zero; zero is exhaustion.
        if level.kind is not LevelKind.EMERGENCY or emergency_credit_micro > 0
    )
    return sorted(pairs, key=lambda pair: (-pair[0], pair[1].kind, pair[1].level_no))


def _margin(amount_micro: int, policy: LevelsPolicy) -> int:
    return max(amount_micro * policy.margin_bp // 10_000, policy.margin_micro)
