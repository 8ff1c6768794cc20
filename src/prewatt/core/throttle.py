"""How long a further try has to wait after failed ones: growing delays, never a lock.

A try is counted in several buckets at once. Each forgets after a quiet time, and none makes anybody
wait longer than its most: a stranger can slow down, and cannot lock out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

#: Beyond this the doubling has long reached every rule's most.
_DOUBLINGS_MAX: Final = 30


@dataclass(frozen=True, slots=True)
class Rule:
    """So many tries are free; then the wait begins at ``first_s`` and doubles up to ``most_s``."""

    free: int
    first_s: int
    most_s: int
    forget_s: int

    def delay(self, tries: int) -> timedelta:
        """The wait after this many failed tries."""
        if tries < self.free:
            return timedelta(0)
        doublings = min(tries - self.free, _DOUBLINGS_MAX)
        return timedelta(seconds=min(self.first_s << doublings, self.most_s))


@dataclass(frozen=True, slots=True)
class Bucket:
    """Failed tries so far, the last of them, and until when the next one waits."""

    tries: int
    last_at: datetime
    wait_until: datetime

    def counted(self, rule: Rule, now: datetime) -> Bucket:
        """After one more try, which fails until proved otherwise."""
        tries = 1 + (0 if self.is_forgotten(rule, now) else self.tries)
        return Bucket(tries, now, now + rule.delay(tries))

    def left(self, rule: Rule, now: datetime) -> timedelta:
        """How long the next try has to wait; not positive where it need not.

        A wait far beyond the rule's most was written before the clock was set back, and counts for nothing.
        """
        left = self.wait_until - now
        return timedelta(0) if left > 2 * timedelta(seconds=rule.most_s) else left

    def is_forgotten(self, rule: Rule, now: datetime) -> bool:
        """Whether so long was quiet that the count begins anew."""
        return now - self.last_at >= timedelta(seconds=rule.forget_s)


#: One mail address from one network address.
PAIR: Final = Rule(free=5, first_s=2, most_s=900, forget_s=24 * 3600)
#: All tries from one network address: a whole office may stand behind it.
NETWORK: Final = Rule(free=30, first_s=1, most_s=300, forget_s=3600)
#: All tries at one mail address, wherever they come from. Short at most: strangers fill this one.
ACCOUNT: Final = Rule(free=10, first_s=1, most_s=30, forget_s=3600)
#: A browser in which this person has signed in before waits for its own failures only.
DEVICE: Final = Rule(free=10, first_s=2, most_s=300, forget_s=24 * 3600)
#: The six digits of one person's second factor, behind their password: a guess is one in a million, and a
#: day of guessing has some hundred.
FACTOR: Final = Rule(free=5, first_s=30, most_s=900, forget_s=24 * 3600)
