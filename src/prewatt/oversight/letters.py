"""Letters to a property's auditors about what their watches found.

Each finding is told to each auditor once, as a row of ``finding_letter`` says; whoever becomes an auditor
later hears of what nobody has answered yet. One letter tells of all that waits, and the next comes a
quarter of an hour later at the soonest, so that a watch that finds a thousand things fills no mailbox.
It goes to the address that a person signs in with, in their language, by the way of every letter to
staff (``sign_in/notices.py``): no telephone number of theirs is kept. Names of customers are not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import connection

from prewatt.access.scope import scope, system_actor
from prewatt.sign_in.notices import FINDINGS, enqueue_for

#: After a letter the same auditor is written no other of the same property for so long.
APART: Final = timedelta(minutes=15)
#: So many findings a letter names one by one; of the others it says how many there are.
NAMED_MAX: Final = 10
_TAKEN_MAX: Final = 5000
_WORKER: Final = system_actor("oversight")

#: What each kind of watch finds, in English and Chinese.
NAMES: Final = {
    "self_approval": ("own approval tried", "试图批准自己的申请"),
    "refused": ("many refusals", "多次被拒绝"),
    "night_change": ("changed outside office hours", "非办公时间的改动"),
    "unusual_refund": ("unusual refund", "异常退款"),
    "taken_back": ("many recharges taken back", "多笔充值被撤回"),
    "small_credits": ("many small recharges", "多笔小额充值"),
    "dormant": ("sleeping account woken", "沉睡账户被唤醒"),
    "broken_glass": ("emergency path used", "使用了紧急通道"),
    "past_program": ("changed past the program", "绕过程序的改动"),
}


def tell_auditors(*, now: datetime) -> int:
    """Write every letter that is owed by now; returns how many. The worker sends them."""
    with scope(_WORKER), connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT property_id FROM watch_finding WHERE seen_at IS NULL")
        places = sorted(row[0] for row in cursor.fetchall())
    written = 0
    for place in places:
        with scope(_WORKER):
            written += _tell_of(place, now)
    return written


def _tell_of(place: int, now: datetime) -> int:
    with connection.cursor() as cursor:
        # Whoever else tells of this property waits, and then finds everything told.
        cursor.execute(
            "SELECT id FROM audit_watch WHERE property_id = %s ORDER BY id FOR UPDATE", [place]
        )
        cursor.execute(_OWED, {"place": place, "since": now - APART, "most": _TAKEN_MAX})
        owed: dict[int, list[tuple[Any, ...]]] = {}
        for person, *rest in cursor.fetchall():
            owed.setdefault(person, []).append(tuple(rest))
        for person, found in owed.items():
            letter = enqueue_for(
                user_id=person, code=FINDINGS, detail=_said(found), now=now
            )  # fmt: skip
            cursor.execute(
                """INSERT INTO finding_letter (property_id, finding_id, user_id, notice_id, written_at)
                   SELECT %s, f, %s, %s, %s FROM unnest(%s::bigint[]) AS f""",
                [place, person, letter, now, [each[0] for each in found]],
            )
    return len(owed)


#: (person, finding, kind, who, when, property's name, zone, language), a person's earliest findings first.
_OWED: Final = """
SELECT u.id, f.id, w.kind, coalesce(nullif(b.name, ''), f.actor), f.happened_at, p.name, p.time_zone,
       u.language
FROM auditors_of(%(place)s) AS a(person)
JOIN app_user u ON u.id = a.person
JOIN property p ON p.id = %(place)s
JOIN watch_finding f ON f.property_id = p.id AND f.seen_at IS NULL
JOIN audit_watch w ON w.id = f.watch_id
LEFT JOIN app_user b ON f.actor = 'user:' || b.id
WHERE NOT EXISTS (SELECT FROM finding_letter l WHERE l.finding_id = f.id AND l.user_id = u.id)
  AND NOT EXISTS (SELECT FROM finding_letter l
                  WHERE l.user_id = u.id AND l.property_id = p.id AND l.written_at > %(since)s)
ORDER BY u.id, f.id LIMIT %(most)s
"""


def _said(found: Sequence[tuple[Any, ...]]) -> dict[str, object]:
    """What a letter says of these findings, in the reader's language and the property's time."""
    _, _, _, _, place, zone, language = found[0]
    is_chinese = str(language).startswith("zh")
    listed = "\n".join(
        f"{happened_at.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M}  "
        f"{NAMES.get(kind, (kind, kind))[is_chinese]}  {_one_line(who)}"
        for _, kind, who, happened_at, *_ in found[:NAMED_MAX]
    )
    return {
        "count": len(found),
        "place": _one_line(place),
        "listed": listed,
        "more": len(found) - NAMED_MAX if len(found) > NAMED_MAX else "",
        "link": f"{settings.PREWATT_ADDRESS}/audit/findings",
    }


def _one_line(text: str) -> str:
    """A name as it may stand in a letter: nothing in it begins a line of its own."""
    return "".join(each if each.isprintable() else " " for each in text)
