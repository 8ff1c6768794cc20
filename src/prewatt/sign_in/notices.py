"""Letters to people who sign in, about their own sign-in: written down here, sent by the worker.

They go by e-mail, since that is the address everybody signs in with, through the channels that `notify` has.
Each is tried again after growing waits, and given up after a day. The link of an invitation is made at
the moment its letter is written, and only its digest is kept.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import connection, transaction

from prewatt.access.models import User
from prewatt.notify.ports import Channel, Contact, Permanent, Rendered, SendOutcome, Sent, Temporary

log = logging.getLogger(__name__)

CHANNEL: Final = "email"
#: Waits after each failed try; after the last, a letter is given up.
BACK_OFF: Final = tuple(timedelta(minutes=each) for each in (1, 5, 15, 60, 240, 480, 720))
#: A letter that is being sent is nobody else's for so long.
_CLAIM: Final = timedelta(minutes=5)
_PASS: Final = 50
INVITED: Final = "access.invited"
#: The same, to a tenant.
TENANT: Final = "access.invited.tenant"
#: To an auditor, about what watches found (``oversight/letters.py``).
FINDINGS: Final = "oversight.findings"

#: code → (subject, lines) in English and Chinese. A line whose figures are not known is left out.
TEXTS: Final[Mapping[str, Mapping[str, tuple[str, Sequence[str]]]]] = {
    "access.new_browser": {
        "en": ("Signed in from a new browser", (
            "Somebody signed in with your password from a browser that we had not seen before.",
            "When: {time}", "From: {address}", "Browser: {agent}",
            "Was it you? Then there is nothing to do.",
            "If not: sign in, end that session under “You and your sign-in”, and change your password. If you cannot sign in, tell who keeps your installation at once.",
        )),
        "zh": ("有新的浏览器登录", (
            "有人用您的密码从一个我们没见过的浏览器登录了。",
            "时间：{time}", "来源：{address}", "浏览器：{agent}",
            "如果是您本人，不用做什么。",
            "如果不是：请登录，在“您与登录”中结束那个会话，并更换密码。如果无法登录，请马上告诉管理本系统的人。",
        )),
    },
    "access.factor.enrolled": {
        "en": ("An app for codes was taken up", ("An app for codes is now your second factor, since {time}.",)),
        "zh": ("已启用验证码应用", ("自 {time} 起，验证码应用是您的第二重验证。",)),
    },
    "access.factor.dropped": {
        "en": ("Your app for codes was given up", ("The app for codes is no second factor of yours any more, since {time}.",)),
        "zh": ("已停用验证码应用", ("自 {time} 起，验证码应用不再是您的第二重验证。",)),
    },
    "access.passkey.added": {
        "en": ("A passkey was added", ("The passkey “{name}” was added to your sign-in at {time}.",)),
        "zh": ("已添加通行密钥", ("{time}，通行密钥“{name}”已添加到您的登录。",)),
    },
    "access.passkey.removed": {
        "en": ("A passkey was removed", ("The passkey “{name}” was removed from your sign-in at {time}.",)),
        "zh": ("已移除通行密钥", ("{time}，通行密钥“{name}”已从您的登录中移除。",)),
    },
    "access.passkey.copied": {
        "en": ("A passkey was blocked", (
            "One of your passkeys counted backwards at {time}, as a copy of it would. It is blocked and proves nothing any more.",
            "Nothing was done with it. Sign in with another factor and look at what was done in your name.",
        )),
        "zh": ("一个通行密钥已被停用", (
            "{time}，您的一个通行密钥的计数倒退了，像是被复制过。它已被停用，不再有效。",
            "没有任何操作用它完成。请用另一种验证登录，并查看以您的名义做过什么。",
        )),
    },
    "access.recovery.used": {
        "en": ("Signed in with a recovery code", ("One of your recovery codes was used to sign in at {time}. {left} are left.",)),
        "zh": ("有人用恢复码登录", ("{time}，您的一个恢复码被用于登录，还剩 {left} 个。",)),
    },
    "access.recovery.made": {
        "en": ("New recovery codes", ("New recovery codes were made for your sign-in at {time}; older ones are void.",)),
        "zh": ("已生成新的恢复码", ("{time}，已为您的登录生成新的恢复码，旧的全部作废。",)),
    },
    "access.factor.asked": {
        "en": ("Another second factor was asked for", (
            "With one of your recovery codes another second factor was asked for at {time}.",
            "It can be taken up from {good_from} on; until then, what you have stays good.",
            "Was it not you? Sign in and press “Keep what I have” under “You and your sign-in”, and change your password.",
        )),
        "zh": ("有人申请更换第二重验证", (
            "{time}，有人用您的一个恢复码申请更换第二重验证。",
            "从 {good_from} 起可以启用新的；在那之前，您现有的仍然有效。",
            "不是您本人？请登录，在“您与登录”中点“保留现有的”，并更换密码。",
        )),
    },
    "access.factor.kept": {
        "en": ("Your second factor stays", ("The asking for another second factor was taken back at {time}.",)),
        "zh": ("第二重验证保持不变", ("{time}，更换第二重验证的申请已撤回。",)),
    },
    "access.factor.forgotten": {
        "en": ("Your second factors were taken away", ("All your second factors and recovery codes were taken away at {time}. Take up a new one at your next sign-in.",)),
        "zh": ("第二重验证已清除", ("{time}，您的全部第二重验证和恢复码已清除。请在下次登录时启用新的。",)),
    },
    "access.password.changed": {
        "en": ("Your password was changed", ("Your password was changed at {time}, and every other session of yours ended.",)),
        "zh": ("密码已更换", ("{time}，您的密码已更换，您的其他会话全部结束。",)),
    },
    "tamper.case": {
        "en": ("A meter has to be looked at", (
            "A tamper case was opened at {place}, unit {unit}, meter {meter}.",
            "When: {time}", "It is under Meters, Tamper cases, with all that is known.",
        )),
        "zh": ("有电表需要查看", (
            "{place} 单元 {unit} 的电表 {meter} 立了异常案件。",
            "时间：{time}", "详情见“电表”下的“异常案件”。",
        )),
    },
    "access.invited.tenant": {
        "en": ("See your electricity", (
            "{by} invites you to see your electricity at {place}: your credit, what you used, and every recharge.",
            "Choose your password here, until {expires}:", "{link}",
            "The link works once. Nobody but you sees what you see there, besides those who manage the property.",
        )),
        "zh": ("查看您的用电", (
            "{by} 邀请您查看您在 {place} 的用电：余额、用量和每一笔充值。",
            "请在 {expires} 之前在这里设置密码：", "{link}",
            "链接只能用一次。除物业管理人员外，只有您能看到这些内容。",
        )),
    },
    "access.invited": {
        "en": ("You are invited to Prewatt", (
            "{by} invites you to Prewatt at {place}.",
            "Choose your password here, until {expires}:", "{link}",
            "The link works once. What you may do there is decided by two people and comes apart from this.",
        )),
        "zh": ("邀请您使用 Prewatt", (
            "{by} 邀请您使用 {place} 的 Prewatt。",
            "请在 {expires} 之前在这里设置密码：", "{link}",
            "链接只能用一次。您可以做什么由两个人决定，另行通知。",
        )),
    },
    FINDINGS: {
        "en": ("Findings at {place}: {count}", (
            "The watches of {place} found what nobody has answered yet. Found since the last letter: {count}.",
            "{listed}", "Besides these: {more}.",
            "Look into it and say what came of it:", "{link}",
            "Only auditors are written this letter, and once of each finding.",
        )),
        "zh": ("{place} 有 {count} 项新发现", (
            "{place} 的监察发现了尚未答复的情况。自上一封信以来共 {count} 项。",
            "{listed}", "此外还有 {more} 项。",
            "请查看并说明结果：", "{link}",
            "这封信只发给审计员，每项发现只通知一次。",
        )),
    },
    "access.suspended": {
        "en": ("Your sign-in is suspended", ("Your sign-in was suspended at {time}, and your sessions ended. Ask who keeps your installation.",)),
        "zh": ("您的登录已暂停", ("{time}，您的登录已暂停，会话全部结束。请询问管理本系统的人。",)),
    },
    "access.resumed": {
        "en": ("You can sign in again", ("Your sign-in is no longer suspended since {time}.",)),
        "zh": ("您可以重新登录", ("自 {time} 起，您的登录不再暂停。",)),
    },
}  # fmt: skip
_REACT: Final = {
    "en": "Was it not you? Tell who keeps your installation at once.",
    "zh": "不是您本人？请马上告诉管理本系统的人。",
}
#: These say themselves what to do.
_SELF_SAID: Final = frozenset(
    {
        "access.new_browser",
        "access.factor.asked",
        "tamper.case",
        INVITED,
        TENANT,
        "access.suspended",
        "access.resumed",
        FINDINGS,
    }
)


@dataclass(frozen=True, slots=True)
class _Due:
    notice_id: int
    code: str
    detail: Mapping[str, Any]
    made_at: datetime
    tries: int
    email: str
    name: str
    language: str
    zone: str


def enqueue(*, user: User, code: str, detail: Mapping[str, object], now: datetime) -> None:
    """Owe this person a letter; in the transaction of what it is about. The worker looks every half second."""
    assert code in TEXTS, code
    with connection.cursor() as cursor:
        cursor.execute(_OWE, [user.pk, code, json.dumps(dict(detail), default=_written), now, now])


def enqueue_for(*, user_id: int, code: str, detail: Mapping[str, object], now: datetime) -> int:
    """The same by the number of a person, for who may read letters: returns the letter's."""
    assert code in TEXTS, code
    with connection.cursor() as cursor:
        cursor.execute(f"{_OWE} RETURNING id", [user_id, code, json.dumps(dict(detail)), now, now])
        return int(cursor.fetchone()[0])


_OWE: Final = """INSERT INTO notice (user_id, code, detail, made_at, due_at)
                 VALUES (%s, %s, %s::jsonb, %s, %s)"""


def deliver_due(
    *, channels: Sequence[Channel], now: datetime, stopping: Callable[[], bool] = lambda: False
) -> int:
    """Send what is due; returns how many letters were taken. No transaction is open while one is sent.

    Without an e-mail channel letters wait: they are given up after a day as any other.
    """
    channel = next((each for each in channels if each.name == CHANNEL), None)
    # A demonstration has an outbox in the place of a mail server.
    channel = channel or next(iter(channels), None)
    if channel is None:
        return 0
    taken = _claim(now)
    for due in taken:
        if stopping():
            break
        _record(due, _send(channel, due, now), now)
    return len(taken)


def said(
    *, code: str, detail: Mapping[str, Any], language: str, zone: str, at: datetime
) -> tuple[str, str]:
    """Subject and body in a person's language; times in ``zone``."""
    tongue = "zh" if language.startswith("zh") else "en"
    subject, lines = TEXTS[code][tongue]
    figures = {name: _figure(value, zone) for name, value in detail.items()}
    figures["time"] = _local(at, zone)
    subject = subject.format_map(defaultdict(str, figures))
    told = [line.format(**figures) for line in lines if _is_known(line, figures)]
    if code not in _SELF_SAID:
        told.append(_REACT[tongue])
    return subject, "\n\n".join(told) + "\n"


def _claim(now: datetime) -> list[_Due]:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            """UPDATE notice n SET due_at = %s, tries = n.tries + 1
               FROM (SELECT id FROM notice WHERE sent_at IS NULL AND given_up_at IS NULL AND due_at <= %s
                     ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED) d, app_user u
               WHERE n.id = d.id AND u.id = n.user_id
               RETURNING n.id, n.code, n.detail::text, n.made_at, n.tries, u.email, u.name,
                   u.language,
                   coalesce((SELECT p.time_zone FROM duty_grant g JOIN property p
                                 ON p.id = g.property_id OR g.property_id IS NULL
                                    AND p.organisation_id = g.organisation_id
                             WHERE g.user_id = u.id AND g.ended_at IS NULL ORDER BY p.id LIMIT 1), 'UTC')""",
            [now + _CLAIM, now, _PASS],
        )
        rows = cursor.fetchall()
    return [
        _Due(
            notice_id=row[0], code=row[1], detail=json.loads(row[2]), made_at=row[3], tries=row[4],
            email=row[5], name=row[6], language=row[7], zone=row[8],
        )
        for row in rows
    ]  # fmt: skip


def _send(channel: Channel, due: _Due, now: datetime) -> SendOutcome:
    detail = dict(due.detail)
    if due.code in (INVITED, TENANT):
        link = _new_link(int(detail.pop("invitation")))
        if link is None:
            return Permanent("the invitation is over")
        detail["link"] = link
    subject, body = said(
        code=due.code, detail=detail, language=due.language, zone=due.zone, at=due.made_at
    )
    address = channel.address_of(Contact(name=due.name, email=due.email, phone=""))
    if not address:
        return Permanent("no address on this channel")
    try:
        return channel.send(
            Rendered(
                reference=f"notice-{due.notice_id}", address=address, contact_name=due.name,
                language=due.language, subject=subject, body=body, at=now,
            )
        )  # fmt: skip
    except Exception as error:
        log.exception("channel %s failed unexpectedly", channel.name)
        return Temporary(f"unexpected {type(error).__name__}", channel_down=True)


def _new_link(invitation_id: int) -> str | None:
    """A fresh link in the place of any older one; None where the invitation is over."""
    token = secrets.token_urlsafe(32)
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE invitation SET token_digest = %s
               WHERE id = %s AND accepted_at IS NULL AND expires_at > clock_timestamp()
               RETURNING property_id""",
            [hashlib.sha256(token.encode()).digest(), invitation_id],
        )
        found = cursor.fetchone()
    return f"{settings.PREWATT_ADDRESS}/invited/{found[0]}/{token}" if found else None


def _record(due: _Due, outcome: SendOutcome, now: datetime) -> None:
    sent: datetime | None = None
    given_up: datetime | None = None
    due_at, error = now, ""
    match outcome:
        case Sent():
            sent = now
        case Temporary(reason) if due.tries <= len(BACK_OFF):
            due_at, error = now + BACK_OFF[due.tries - 1], reason
        case Temporary(reason) | Permanent(reason):
            given_up, error = now, reason
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE notice SET sent_at = %s, given_up_at = %s, due_at = %s, error = %s
               WHERE id = %s AND tries = %s AND sent_at IS NULL""",
            [sent, given_up, due_at, error[:300], due.notice_id, due.tries],
        )


def _is_known(line: str, figures: Mapping[str, str]) -> bool:
    return all(
        f"{{{name}}}" not in line or figures.get(name)
        for name in (
            "address",
            "agent",
            "name",
            "left",
            "good_from",
            "link",
            "by",
            "place",
            "expires",
            "listed",
            "more",
        )
    )


def _figure(value: object, zone: str) -> str:
    if isinstance(value, str) and value.startswith("at:"):
        return _local(datetime.fromisoformat(value.removeprefix("at:")), zone)
    return "" if value is None else str(value)


def _written(value: object) -> str:
    """An instant in a detail, marked so that it is said in the reader's own time."""
    assert isinstance(value, datetime)
    return f"at:{value.isoformat()}"


def _local(at: datetime, zone: str) -> str:
    return f"{at.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M} ({zone})"
