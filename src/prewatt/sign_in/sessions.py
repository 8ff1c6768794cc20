"""Sessions as their person sees them: where they are signed in, since when, last seen, and ended at will.

A session of the browser (`django_session`) is good only as long as its row here is: each request looks. It ends
twelve hours after it began, and after two hours in which its person asked for nothing; what an open page asks
for by itself does not count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import connection
from django.db.models import F

from prewatt.access.models import User
from prewatt.sign_in import notices
from prewatt.sign_in.models import SignIn

LASTS: Final = timedelta(hours=12)
IDLE: Final = timedelta(hours=2)
#: When a person was last seen is written down this often.
_SEEN_EVERY: Final = timedelta(minutes=1)
AGENT_MAX: Final = 200
#: A person's list shows so many, the latest first.
SHOWN_MAX: Final = 30


@dataclass(frozen=True, slots=True)
class Visitor:
    """What a browser says of itself and where it asks from; ``browser`` names it by its cookie, or is empty."""

    address: str
    agent: str
    browser: str


def begin(*, user: User, by: str, visitor: Visitor, now: datetime) -> SignIn:
    """A new session. A browser that this person was never seen with, while they were with another, is
    written to them.
    """
    browser = _digest(visitor.browser)
    earlier = SignIn.objects.filter(user=user)
    is_new = earlier.exists() and not earlier.filter(browser=browser).exclude(browser="").exists()
    if is_new:
        notices.enqueue(
            user=user, code="access.new_browser", now=now,
            detail={"address": visitor.address, "agent": named(visitor.agent)},
        )  # fmt: skip
    return SignIn.objects.create(
        user=user, by=by, began_at=now, last_seen_at=now, address=visitor.address[:45],
        agent=visitor.agent[:AGENT_MAX], browser=browser,
    )  # fmt: skip


def is_good(*, sign_in_id: int, user: User, by_person: bool, now: datetime) -> bool:
    """Whether this session of this person goes on; ends one that is too old or idle for too long."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT began_at, last_seen_at FROM sign_in WHERE id = %s AND user_id = %s AND ended_at IS NULL",
            [sign_in_id, user.pk],
        )
        found = cursor.fetchone()
    if found is None:
        return False
    began_at, seen_at = found
    if now - began_at >= LASTS or now - seen_at >= IDLE:
        end(sign_in_ids=[sign_in_id], why="old" if now - began_at >= LASTS else "idle", now=now)
        return False
    if by_person and now - seen_at >= _SEEN_EVERY:
        SignIn.objects.filter(pk=sign_in_id, ended_at=None).update(last_seen_at=now)
    return True


def of(user: User) -> Sequence[SignIn]:
    """This person's sessions, those that go on first, then the latest that ended."""
    found = SignIn.objects.filter(user=user)
    return list(found.order_by(F("ended_at").desc(nulls_first=True), "-last_seen_at")[:SHOWN_MAX])


def end(*, sign_in_ids: Sequence[int], why: str, now: datetime) -> None:
    """End sessions; one that has ended stays as it ended."""
    SignIn.objects.filter(pk__in=sign_in_ids, ended_at=None).update(ended_at=now, ended_why=why)


def end_own(*, user: User, sign_in_id: int, now: datetime) -> bool:
    """End one session of one's own; False for what is none."""
    found = SignIn.objects.filter(pk=sign_in_id, user=user, ended_at=None)
    return bool(found.update(ended_at=now, ended_why="ended"))


def end_others(*, user: User, but: int, why: str, now: datetime) -> int:
    """End every session of this person but one; returns how many."""
    found = SignIn.objects.filter(user=user, ended_at=None).exclude(pk=but)
    return int(found.update(ended_at=now, ended_why=why))


def named(agent: str) -> str:
    """A browser and its system in two words, of what it says of itself; what it says where that is unknown."""
    browser = next((name for sign, name in _BROWSERS if sign in agent), "")
    system = next((name for sign, name in _SYSTEMS if sign in agent), "")
    return " · ".join(filter(None, (browser, system))) or agent[:60]


#: Most call themselves by each other's names, so the order decides.
_BROWSERS: Final = (
    ("Edg/", "Edge"), ("OPR/", "Opera"), ("MicroMessenger", "WeChat"), ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"), ("Safari/", "Safari"),
)  # fmt: skip
_SYSTEMS: Final = (
    ("iPhone", "iPhone"), ("iPad", "iPad"), ("Android", "Android"), ("Windows", "Windows"),
    ("Mac OS X", "Mac"), ("Linux", "Linux"),
)  # fmt: skip


def _digest(browser: str) -> str:
    return hashlib.sha256(browser.encode()).hexdigest() if browser else ""
