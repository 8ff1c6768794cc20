"""What each message says: code and detail to subject and body, in English and in Chinese.

Pure: the language, the time zone, the currency and the instant "now" are arguments. A text is a
list of lines with named figures; a line whose figures are not known is left out, so that no message
ever says "None". The tone is the guide's: what happened, what happens next, what you can do; never
whose fault it is.

Figures a detail may carry (anything else is kept for the record and not said): ``level_kind``
(core.vocabulary.LevelKind word), ``available_micro``, ``emergency_micro``, ``amount_micro`` in
micro-units; ``days_left_h`` hours left at the usual use; ``earliest_cut_us``, ``at_us`` in µs since
1970 UTC; ``receipt`` a document number; of a correction ``charged_before_micro`` and
``charged_after_micro``, and the difference as either ``returned_micro`` or ``added_micro``; of a recharge
``collected_micro``, charges taken with it. Of debts and
money that goes back (``texts_of_money``): ``reason``, a word of ``REASONS``; ``document`` and ``debt``,
numbers with their series; ``emergency_used_micro``, ``debt_micro``, ``left_micro``, ``reopened_micro``;
the agreement, ``share_ppm`` and ``weekly_cap_micro`` (0: no cap). Each may be missing or null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from prewatt.core.civil_time import HOUR_US, instant_us, utc_datetime
from prewatt.core.money import format_amount
from prewatt.notify.texts import Text
from prewatt.notify.texts_of_money import REASONS, TEXTS_OF_MONEY

SUBJECT_MAX: Final = 200
_NUMBERS: Final = (
    *("available_micro", "emergency_micro", "amount_micro"),
    *("days_left_h", "earliest_cut_us", "at_us"),
    *("charged_before_micro", "charged_after_micro", "returned_micro", "added_micro"),
    *("emergency_used_micro", "debt_micro", "left_micro", "reopened_micro", "collected_micro"),
    *("share_ppm", "weekly_cap_micro"),
)
#: Below this many hours, time left is said in hours; from this many days on, by date.
_HOURS_BELOW: Final = 72
_NEAR_DAYS: Final = 6
_DAYS: Final = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "zh": ("周一", "周二", "周三", "周四", "周五", "周六", "周日"),
}
_MONTHS: Final = (
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
)


class UnsayableMessage(ValueError):
    """The code has no sentences, or a figure of the detail is not what the sentences expect."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Whom and where a message is about. ``unit`` is empty when the account never had one."""

    language: str
    time_zone: str
    currency: str
    property_name: str
    customer_name: str
    account_number: str
    unit: str


@dataclass(frozen=True, slots=True)
class _Frame:
    """What stands around every text: the greeting, and what the message is about."""

    greeting: str
    about: str
    about_without_unit: str


_TEXTS: Final[dict[tuple[str, str], Text]] = {
    **TEXTS_OF_MONEY,
    ("supply.warning", "en"): Text(
        ("Your electricity runs out {runs_out}", "Your electricity balance is {balance}"),
        (
            "Your electricity balance is {balance}.",
            "At your usual use that is {left}: it runs out {runs_out}.",
            "After that, emergency credit of {emergency} follows.",
            "At your usual use, supply is not cut before {cut_at}.",
            "A recharge in time keeps everything on.",
        ),
    ),
    ("supply.warning", "zh"): Text(
        ("电费余额预计{runs_out}用完", "电费余额 {balance}"),
        (
            "您的电费余额为 {balance}。",
            "按平时用电，还可用{left}，预计{runs_out}用完。",
            "用完后还有应急额度 {emergency}。",
            "按平时用电，{cut_at} 之前不会断电。",
            "及时充值，用电不受影响。",
        ),
    ),
    ("supply.emergency", "en"): Text(
        ("Your balance is used up; emergency credit keeps supply on",),
        (
            "Your electricity balance is {balance}.",
            "Emergency credit of {emergency} has started, so supply stays on.",
            "At your usual use, supply is not cut before {cut_at}.",
            "A recharge first evens out the emergency credit; the rest is yours to use.",
        ),
    ),
    ("supply.emergency", "zh"): Text(
        ("余额已用完，应急额度保持供电",),
        (
            "您的电费余额为 {balance}。",
            "应急额度 {emergency} 已启用，供电继续。",
            "按平时用电，{cut_at} 之前不会断电。",
            "充值后先补足应急额度，其余照常使用。",
        ),
    ),
    ("supply.cut_planned", "en"): Text(
        ("Supply may be cut from {cut_at}", "Supply may be cut soon"),
        (
            "Your electricity balance is {balance}.",
            "All credit is used up, and nothing has arrived yet.",
            "Supply may be cut from {cut_at}, not earlier.",
            "A recharge before then keeps everything on.",
            "If you cannot recharge in time, please speak to the property office.",
        ),
    ),
    ("supply.cut_planned", "zh"): Text(
        ("{cut_at} 起可能断电", "近期可能断电"),
        (
            "您的电费余额为 {balance}，可用额度已用完，目前尚未收到充值。",
            "{cut_at} 起可能断电，在此之前不会断电。",
            "在此之前充值，供电不会中断。",
            "如暂时无法充值，请联系物业服务处。",
        ),
    ),
    ("supply.cut", "en"): Text(
        ("Supply was cut {at}", "Supply was cut"),
        (
            "Supply was cut {at}, because all credit was used up.",
            "Your electricity balance is {balance}.",
            "A recharge that lifts the balance far enough brings supply back by itself, at any hour.",
            "If you have questions, please speak to the property office.",
        ),
    ),
    ("supply.cut", "zh"): Text(
        ("已于{at} 断电", "已断电"),
        (
            "可用额度已用完，已于{at} 断电。",
            "您的电费余额为 {balance}。",
            "任何时间充值，余额足够后即自动恢复供电。",
            "如有疑问，请联系物业服务处。",
        ),
    ),
    ("supply.connected", "en"): Text(
        ("Supply is on again",),
        (
            "Supply is on again: your meter confirmed it {at}.",
            "Your electricity balance is {balance}.",
        ),
    ),
    ("supply.connected", "zh"): Text(
        ("已恢复供电",),
        ("已恢复供电，电表已于{at} 确认。", "您的电费余额为 {balance}。"),
    ),
    ("tamper.noticed", "en"): Text(
        ("Please have your electricity meter looked at",),
        (
            "Your meter reported something on {at} that somebody has to look at.",
            "Nothing changes for you: supply stays on.",
            "Do you know of work at the meter, or have you seen something? Please tell the property office.",
        ),
    ),
    ("tamper.noticed", "zh"): Text(
        ("请配合查看您的电表",),
        (
            "您的电表在{at} 报告了需要查看的情况。",
            "您的用电不受影响，供电照常。",
            "如您知道电表有过作业，或看到什么情况，请告诉物业服务处。",
        ),
    ),
    ("tamper.emergency_held", "en"): Text(
        ("Emergency credit waits until your meter was looked at",),
        (
            "Your meter reported something on {at} that somebody has to look at.",
            "Until that is settled there is no emergency credit; your balance stays yours to use.",
            "Your electricity balance is {balance}.",
            "Please speak to the property office.",
        ),
    ),
    ("tamper.emergency_held", "zh"): Text(
        ("查看电表之前暂停应急额度",),
        (
            "您的电表在{at} 报告了需要查看的情况。",
            "处理完毕之前没有应急额度，您的余额照常可用。",
            "您的电费余额为 {balance}。",
            "请联系物业服务处。",
        ),
    ),
    ("tamper.cut_planned", "en"): Text(
        (
            "Supply may be cut from {cut_at}: please speak to us about your meter",
            "Please speak to us about your meter",
        ),
        (
            "Your meter reported something on {at} that somebody has to look at.",
            "Supply may be cut from {cut_at}, not earlier, until that is settled. Your balance stays yours.",
            "Please speak to the property office before then.",
            "If somebody in your home depends on electricity for their health, tell us at once.",
        ),
    ),
    ("tamper.cut_planned", "zh"): Text(
        ("{cut_at} 起可能断电：请就电表与我们联系", "请就电表与我们联系"),
        (
            "您的电表在{at} 报告了需要查看的情况。",
            "{cut_at} 起可能断电，在此之前不会断电，处理完毕后恢复。您的余额不受影响。",
            "请在此之前联系物业服务处。",
            "如家中有人的健康依赖用电，请马上告诉我们。",
        ),
    ),
    ("tamper.cut", "en"): Text(
        ("Supply was cut {at}: please speak to us about your meter", "Supply was cut"),
        (
            "Supply was cut {at}, because your meter has to be looked at. It is not about your balance.",
            "Your electricity balance is {balance}, and stays yours.",
            "Supply comes back by itself once that is settled. Please speak to the property office.",
        ),
    ),
    ("tamper.cut", "zh"): Text(
        ("已于{at} 断电：请就电表与我们联系", "已断电"),
        (
            "因电表需要查看，已于{at} 断电，与您的余额无关。",
            "您的电费余额为 {balance}，仍归您使用。",
            "处理完毕后自动恢复供电。请联系物业服务处。",
        ),
    ),
    ("vending.recharged", "en"): Text(
        ("Your recharge of {amount} has arrived", "Your recharge has arrived"),
        (
            "Your recharge of {amount} has arrived. Thank you.",
            "{debt_amount} of it went to your debts.",
            "{collected} of it went to charges that are collected with a recharge.",
            "Your electricity balance is {balance}.",
            "At your usual use that is {left}.",
            "Receipt number {receipt}.",
        ),
    ),
    ("vending.recharged", "zh"): Text(
        ("充值 {amount} 已到账", "充值已到账"),
        (
            "您的充值 {amount} 已到账，谢谢。",
            "其中 {debt_amount} 用于偿还欠款。",
            "其中 {collected} 用于随充值收取的费用。",
            "当前电费余额 {balance}。",
            "按平时用电，还可用{left}。",
            "收据编号 {receipt}。",
        ),
    ),
    ("billing.corrected", "en"): Text(
        (
            "{returned} has come back to your account after a correction",
            "A correction has added {added} to your charges",
        ),
        (
            "What you used since {at} has been charged anew: {charged_before} before, {charged_after} now.",
            "The difference of {returned} is back in your account.",
            "The difference of {added} was taken from your account.",
            "Your electricity balance is {balance}.",
            "Your account lists the correction day by day.",
            "If you have questions, please speak to the property office.",
        ),
    ),
    ("billing.corrected", "zh"): Text(
        ("电费更正：已退回 {returned}", "电费更正：补收 {added}"),
        (
            "自{at} 起的电费已重新计算：原为 {charged_before}，现为 {charged_after}。",
            "差额 {returned} 已退回您的账户。",
            "差额 {added} 已从您的账户扣除。",
            "当前电费余额 {balance}。",
            "账户中按日列出了更正明细。",
            "如有疑问，请联系物业服务处。",
        ),
    ),
}
_FRAME: Final = {
    "en": _Frame(
        "Hello {name},",
        "{property}, unit {unit}, account {account}",
        "{property}, account {account}",
    ),
    "zh": _Frame(
        "{name}，您好：", "{property}，单元 {unit}，账户 {account}", "{property}，账户 {account}"
    ),
}

#: Every code that can be said.
CODES: Final = frozenset(code for code, _ in _TEXTS)
#: Codes that count as a warning before a cut.
WARNINGS: Final = ("supply.warning", "supply.emergency", "supply.cut_planned")
#: The notice before a cut for tampering.
TAMPER_NOTICE: Final = "tamper.cut_planned"
#: Answers to what the customer has just done: nobody has to wait until morning for them, but for a
#: channel that wakes people; and where there is no address, nobody has to be called.
ANSWERS: Final = (
    "vending.recharged",
    "supply.connected",
    "debts.paid",
    "debts.reduced",
    "vending.refund_paid",
)
#: A warning of these levels has sentences of its own.
_BY_LEVEL: Final = {"emergency": "supply.emergency", "exhausted": "supply.cut_planned"}


def refuse_unsayable(code: str, detail: Mapping[str, object]) -> None:
    """Raise `UnsayableMessage` now, in the caller's test, rather than at night in the worker."""
    if code not in CODES:
        raise UnsayableMessage(f"no sentences for message code {code!r}")
    for name in _NUMBERS:
        value = detail.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise UnsayableMessage(f"{code}: {name} must be an integer or null, not {value!r}")


def render(
    *,
    code: str,
    detail: Mapping[str, object],
    setting: Setting,
    created_at: datetime,
    now: datetime,
) -> tuple[str, str]:
    """Return (subject, body): one clean line, and lines that end with a line feed.

    A forecast counts from ``created_at``, when the figures were true; days are named from ``now``,
    when they are read. Raises `UnsayableMessage`.
    """
    refuse_unsayable(code, detail)
    lang = "zh" if setting.language.startswith("zh") else "en"
    if code == "supply.warning":
        code = _BY_LEVEL.get(str(detail.get("level_kind")), code)
    text = _TEXTS[code, lang]
    figures = _figures(detail, setting, lang, created_at, now)
    frame = _FRAME[lang]
    subjects = [_fill(template, figures) for template in text.subjects]
    parts = [
        _fill(frame.greeting, figures),
        "\n".join(line for line in (_fill(template, figures) for template in text.lines) if line),
        _fill(frame.about, figures) or _fill(frame.about_without_unit, figures),
    ]
    subject = next((each for each in subjects if each), figures["property"])
    return subject[:SUBJECT_MAX], "\n\n".join(part for part in parts if part) + "\n"


def _figures(
    detail: Mapping[str, object], setting: Setting, lang: str, created_at: datetime, now: datetime
) -> dict[str, str]:
    """Every figure as people read it; an unknown one is an empty string."""

    def number(name: str) -> int | None:
        value = detail.get(name)
        return value if isinstance(value, int) else None

    def money(name: str) -> str:
        micro = number(name)
        return "" if micro is None else format_amount(micro, currency=setting.currency)

    def instant(name: str) -> str:
        at_us = number(name)
        return "" if at_us is None else _point(utc_datetime(at_us), now, setting.time_zone, lang)

    left_h = number("days_left_h")
    return {
        "name": _one_line(setting.customer_name),
        "property": _one_line(setting.property_name),
        "unit": _one_line(setting.unit),
        "account": _one_line(setting.account_number),
        "balance": money("available_micro"),
        # A property without emergency credit has none to speak of.
        "emergency": money("emergency_micro") if number("emergency_micro") else "",
        "amount": money("amount_micro"),
        "left": "" if left_h is None else _left(left_h, lang),
        "runs_out": ""
        if left_h is None
        else _about(left_h, created_at, now, setting.time_zone, lang),
        "cut_at": instant("earliest_cut_us"),
        "at": instant("at_us"),
        "charged_before": money("charged_before_micro"),
        "charged_after": money("charged_after_micro"),
        "returned": money("returned_micro"),
        "added": money("added_micro"),
        "receipt": _one_line(str(detail.get("receipt") or "")),
        **_of_money(detail, money, lang),
    }


def _of_money(
    detail: Mapping[str, object], money: Callable[[str], str], lang: str
) -> dict[str, str]:
    """Figures of debts and of money that goes back; what is nothing is not spoken of."""
    debt = _one_line(str(detail.get("debt") or ""))
    share = detail.get("share_ppm")
    return {
        **{
            name: money(f"{name}_micro") if detail.get(f"{name}_micro") else ""
            for name in ("emergency_used", "reopened", "weekly_cap", "collected")
        },
        "debt_amount": money("debt_micro") if detail.get("debt_micro") else "",
        "owed": money("left_micro") if detail.get("left_micro") else "",
        "debt": debt,
        "share": _per_cent(share) if isinstance(share, int) and share else "",
        # A debt that takes nothing of recharges is waited for, and said to be.
        "debt_at_rest": debt if share == 0 else "",
        "document": _one_line(str(detail.get("document") or "")),
        "reason": REASONS.get((str(detail.get("reason")), lang), ""),
    }


def _per_cent(ppm: int) -> str:
    """`25%`, `12.5%`."""
    whole, part = divmod(ppm, 10_000)
    return f"{whole}.{part:04d}".rstrip("0").rstrip(".") + "%"


def _fill(template: str, figures: Mapping[str, str]) -> str:
    """The template with its figures, or an empty string when one of them is not known."""
    known = {name: value for name, value in figures.items() if value}
    try:
        return template.format_map(known)
    except KeyError:
        return ""


def _left(hours: int, lang: str) -> str:
    """`about 19 hours`, `about 3 days`; `约 19 小时`, `约 3 天`."""
    if hours < 1:
        return "不到 1 小时" if lang == "zh" else "less than an hour"
    if hours < _HOURS_BELOW:
        return (
            f"约 {hours} 小时" if lang == "zh" else f"about {hours} hour{'' if hours == 1 else 's'}"
        )
    return f"约 {hours // 24} 天" if lang == "zh" else f"about {hours // 24} days"


def _about(hours: int, created_at: datetime, now: datetime, time_zone: str, lang: str) -> str:
    """`Thursday about 18:00`, `about 2 Dec`; `周四 18:00 左右`, `12月2日左右`."""
    at = utc_datetime(instant_us(created_at) + hours * HOUR_US)
    if at <= now + timedelta(hours=1):
        return "一小时内" if lang == "zh" else "within about an hour"
    there, today = _local(at, time_zone), _local(now, time_zone).date()
    days = (there.date() - today).days
    # A forecast is no better than half an hour, and beyond some days no better than the day.
    clock = f"{there:%H}:{'00' if there.minute < 30 else '30'}"
    if lang == "zh":
        far = f"{there.month}月{there.day}日左右"
        return far if days >= _NEAR_DAYS else f"{_DAYS[lang][there.weekday()]} {clock} 左右"
    if days >= _NEAR_DAYS:
        return f"about {there.day} {_MONTHS[there.month - 1]}"
    return f"{_DAYS[lang][there.weekday()]} about {clock}"


def _point(at: datetime, now: datetime, time_zone: str, lang: str) -> str:
    """An instant known exactly: `Monday 09:00`, `2 Dec, 09:00`; a letter never says "today"."""
    there, today = _local(at, time_zone), _local(now, time_zone).date()
    days = (there.date() - today).days
    if -1 <= days < _NEAR_DAYS:
        return f"{_DAYS[lang][there.weekday()]} {there:%H:%M}"
    if lang == "zh":
        return f"{there.month}月{there.day}日 {there:%H:%M}"
    return f"{there.day} {_MONTHS[there.month - 1]}, {there:%H:%M}"


def _local(at: datetime, time_zone: str) -> datetime:
    return at.astimezone(ZoneInfo(time_zone))


def _one_line(text: str) -> str:
    """Names come from people: no line break or control character of theirs shapes a message."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
