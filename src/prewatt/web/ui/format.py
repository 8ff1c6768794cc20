"""Figures as people read them, in English and Chinese: money, energy, prices, instants, days left.

Everything here is pure: the language, the instant "now" and the time zone are arguments. The rules
are the guide's: true minus, currency sign attached, kWh with one decimal (度 in Chinese), 24-hour
local times, near ones by weekday and far ones by date, and a forecast always says "about".
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from prewatt.core.money import MINUS, AmountText, amount_text

_DAYS_EN: Final = (
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
)
_DAYS_ZH: Final = ("周一", "周二", "周三", "周四", "周五", "周六", "周日")
_MONTHS_EN: Final = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
#: From this many days ahead or back an instant is named by its date, not by its weekday.
NEAR_DAYS: Final = 6
#: Below this many hours, time left is said in hours.
HOURS_BELOW: Final = 72


def is_chinese(lang: str) -> bool:
    """Whether the language code is any kind of Chinese."""
    return lang.startswith("zh")


def money(micro: int, currency: str) -> str:
    """`−€2.65`."""
    return str(amount_text(micro, currency=currency))


def signed_money(micro: int, currency: str) -> str:
    """`+€20.00` for credit, `−€2.65` for charges, no sign at zero."""
    return ("+" if micro > 0 else "") + money(micro, currency)


def money_parts(micro: int, currency: str) -> AmountText:
    """The pieces of a big amount, whose currency sign is set small and quiet."""
    return amount_text(micro, currency=currency)


def energy(wh: int, lang: str) -> str:
    """`9.1 kWh`, from 100 kWh on without decimals: `1,587 kWh`; 度 in Chinese."""
    return f"{energy_digits(wh)} {'度' if is_chinese(lang) else 'kWh'}"


def energy_digits(wh: int) -> str:
    """The digits of :func:`energy`, rounded half up in integers."""
    sign, size = (MINUS, -wh) if wh < 0 else ("", wh)
    if size >= 100_000:
        return f"{sign}{(size + 500) // 1000:,}"
    tenths = (size + 50) // 100
    return f"{sign}{tenths // 10:,}.{tenths % 10}"


def energy_exact(wh: int, lang: str) -> str:
    """`2,760 kWh`, `13.5 kWh`: every decimal that it has, for limits and allowances."""
    whole, part = divmod(wh, 1000)
    decimals = f".{part:03d}".rstrip("0") if part else ""
    return f"{whole:,}{decimals} {'度' if is_chinese(lang) else 'kWh'}"


def energy_wh(wh: int, lang: str) -> str:
    """`0.482 kWh`: to the watt-hour, as registers count."""
    sign, size = (MINUS, -wh) if wh < 0 else ("", wh)
    return f"{sign}{size // 1000:,}.{size % 1000:03d} {'度' if is_chinese(lang) else 'kWh'}"


def percent(ppm: int, *, signed: bool = False) -> str:
    """`8.1 %`; with a sign and one decimal for a change: `+2.5 %`, `−4.1 %`."""
    size = abs(ppm)
    if signed:
        tenths = (size + 500) // 1000
        sign = "" if tenths == 0 else MINUS if ppm < 0 else "+"
        return f"{sign}{tenths // 10:,}.{tenths % 10} %"
    text = f"{size // 10_000:,}.{size % 10_000:04d}".rstrip("0").rstrip(".")
    return f"{MINUS if ppm < 0 else ''}{text} %"


def register(wh: int) -> str:
    """A register as its display shows it: kWh with three decimals, a space at the thousands."""
    return f"{wh // 1000:,}.{wh % 1000:03d}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def local(at: datetime, zone: str) -> datetime:
    """The instant in the property's civil time."""
    return at.astimezone(ZoneInfo(zone))


def clock(at: datetime, zone: str) -> str:
    """`14:05`."""
    return f"{local(at, zone):%H:%M}"


def clock_s(at: datetime, zone: str) -> str:
    """`14:05:09`."""
    return f"{local(at, zone):%H:%M:%S}"


def day_name(day: date, lang: str, *, long: bool = False) -> str:
    """`Thu`, `Thursday` or `周四`."""
    if is_chinese(lang):
        return _DAYS_ZH[day.weekday()]
    return _DAYS_EN[day.weekday()] if long else _DAYS_EN[day.weekday()][:3]


def weekday_name(weekday: int, lang: str) -> str:
    """`Monday` or `周一`, Monday 0."""
    return (_DAYS_ZH if is_chinese(lang) else _DAYS_EN)[weekday]


def month_name(day: date, lang: str) -> str:
    """`November` or `11月`."""
    return f"{day.month}月" if is_chinese(lang) else _MONTHS_EN[day.month - 1]


def month_of_year(day: date, lang: str) -> str:
    """`November 2026` or `2026年11月`."""
    name = month_name(day, lang)
    return f"{day.year}年{name}" if is_chinese(lang) else f"{name} {day.year}"


def date_text(day: date, lang: str, *, today: date | None = None, long: bool = False) -> str:
    """`9 Nov` or `11月9日`, with the year when it is not that of ``today``."""
    other_year = today is not None and day.year != today.year
    if is_chinese(lang):
        return (f"{day.year}年" if other_year else "") + f"{day.month}月{day.day}日"
    month = _MONTHS_EN[day.month - 1] if long else _MONTHS_EN[day.month - 1][:3]
    return f"{day.day} {month}" + (f" {day.year}" if other_year else "")


def full_date(day: date, lang: str) -> str:
    """`1 March 2025` or `2025年3月1日`."""
    if is_chinese(lang):
        return f"{day.year}年{day.month}月{day.day}日"
    return f"{day.day} {_MONTHS_EN[day.month - 1]} {day.year}"


def headline(now: datetime, zone: str, lang: str) -> str:
    """`Tuesday 17 November, 14:30` or `11月17日 周二 14:30`."""
    here = local(now, zone)
    if is_chinese(lang):
        return f"{here.month}月{here.day}日 {_DAYS_ZH[here.weekday()]} {here:%H:%M}"
    return f"{_DAYS_EN[here.weekday()]} {date_text(here.date(), lang, long=True)}, {here:%H:%M}"


def stamp(at: datetime, now: datetime, zone: str, lang: str, *, seconds: bool = False) -> str:
    """When something happened: `13:05`, `yesterday 13:05`, `Mon 16, 14:02`, `9 Nov, 14:02`.

    With ``seconds`` where minutes do not tell one from the next.
    """
    there, here = local(at, zone), local(now, zone)
    days = (here.date() - there.date()).days
    time = f"{there:%H:%M:%S}" if seconds else f"{there:%H:%M}"
    if days == 0:
        return time
    if days == 1:
        return f"{'昨天' if is_chinese(lang) else 'yesterday'} {time}"
    return f"{_day_stamp(there.date(), here.date(), lang)}{_comma(lang)}{time}"


def day_stamp(day: date, now: datetime, zone: str, lang: str) -> str:
    """A service day in a timeline: `today`, `Mon 16`, `9 Nov`."""
    today = local(now, zone).date()
    if day == today:
        return "今天" if is_chinese(lang) else "today"
    return _day_stamp(day, today, lang)


def day_range(begin: date, end: date, now: datetime, zone: str, lang: str) -> str:
    """The half-open range of days as people say it: `Mon 16`, or `Mon 9 – Fri 13`."""
    last = end - timedelta(days=1)
    first = day_stamp(begin, now, zone, lang)
    return first if last <= begin else f"{first} – {day_stamp(last, now, zone, lang)}"


def point(at: datetime, now: datetime, zone: str, lang: str, *, long: bool = False) -> str:
    """A coming instant known exactly: `today 21:40`, `Wed 09:00`, `Mon 23, 09:00`, `2 Dec, 09:00`."""
    there, today = local(at, zone), local(now, zone).date()
    days = (there.date() - today).days
    if days == 0:
        return f"{'今天' if is_chinese(lang) else 'today'} {there:%H:%M}"
    if 0 < days < NEAR_DAYS:
        return f"{day_name(there.date(), lang, long=long)} {there:%H:%M}"
    return f"{_day_stamp(there.date(), today, lang)}{_comma(lang)}{there:%H:%M}"


def forecast(at: datetime, now: datetime, zone: str, lang: str) -> str:
    """A coming instant that was estimated, under a heading that says "about": `Thu 18:00`."""
    if at <= now:
        return "随时" if is_chinese(lang) else "any moment"
    return point(_rounded(at, now), now, zone, lang)


def about(at: datetime, now: datetime, zone: str, lang: str, *, long: bool = False) -> str:
    """A coming instant that was estimated: `Thu about 18:00`, `about 2 Dec`; `约周四 18:00`."""
    if at <= now:
        return "随时" if is_chinese(lang) else "any moment now"
    there, today = local(_rounded(at, now), zone), local(now, zone).date()
    days = (there.date() - today).days
    if days >= NEAR_DAYS:
        named = date_text(there.date(), lang, today=today)
        return f"约 {named}" if is_chinese(lang) else f"about {named}"
    if is_chinese(lang):
        return f"约{'今天' if days == 0 else day_name(there.date(), lang)} {there:%H:%M}"
    named = "today" if days == 0 else day_name(there.date(), lang, long=long)
    return f"{named} about {there:%H:%M}"


def time_left(hours: int | None, lang: str) -> str:
    """`6 days left`, below three days `19 hours left`; empty when it cannot be said."""
    if hours is None:
        return ""
    if hours < HOURS_BELOW:
        if is_chinese(lang):
            return f"剩 {max(hours, 0)} 小时"
        return f"{max(hours, 0)} {'hour' if hours == 1 else 'hours'} left"
    return f"剩 {hours // 24} 天" if is_chinese(lang) else f"{hours // 24} days left"


def spread(seconds: int, lang: str) -> str:
    """Half of a forecast's range: `±15 h`, from three days on `±4 days`."""
    hours = max(1, round(seconds / 3600))
    if hours < HOURS_BELOW:
        return f"±{hours} {'小时' if is_chinese(lang) else 'h'}"
    return f"±{hours // 24} {'天' if is_chinese(lang) else 'days'}"


def weekdays(days: Iterable[int], lang: str) -> str:
    """`Mon to Fri` for a run of days, else each of them: `Mon, Wed`; `周一至周五`."""
    numbers = sorted(days)
    names = [_DAYS_ZH[day] if is_chinese(lang) else _DAYS_EN[day][:3] for day in numbers]
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{names[0]}{'至' if is_chinese(lang) else ' to '}{names[-1]}"
    return listed(names, lang)


def day_kinds(kinds: Iterable[int], lang: str) -> str:
    """Days of the week, and 7 for holidays: `every day`, `Mon to Fri`, `Sat, Sun, holidays`."""
    numbers = sorted(kinds)
    days = [day for day in numbers if day < 7]
    zh = is_chinese(lang)
    if len(days) == 7:
        return "每天" if zh else "every day"
    named = [weekdays(days, lang)] if days else []
    if 7 in numbers:
        named.append("节假日" if zh else "holidays")
    return listed(named, lang)


def minutes_of_day(from_minute: int, until_minute: int) -> str:
    """`06:00–17:30`."""
    return "–".join(f"{each // 60:02d}:{each % 60:02d}" for each in (from_minute, until_minute))


def grid_day(position: int, lang: str) -> str:
    """A day of any year, by its position in one that has a 29 February: `1 Jun`, `6月1日`."""
    return date_text(date(2024, 1, 1) + timedelta(days=position % 366), lang)


def grid_days(ranges: Iterable[tuple[int, int]], lang: str) -> str:
    """Half-open ranges of such days by their first and last: `1 Jun – 31 Aug`, over new year as one."""
    parts = sorted(ranges)
    if len(parts) > 1 and parts[0][0] == 0 and parts[-1][1] == 366:
        parts = [*parts[1:-1], (parts[-1][0], parts[0][1])]
    shown = []
    for begin, end in parts:
        first, last = grid_day(begin, lang), grid_day(end - 1, lang)
        if (end - begin) % 366 == 0:
            shown.append("全年" if is_chinese(lang) else "the whole year")
        else:
            shown.append(first if first == last else f"{first} – {last}")
    return listed(shown, lang)


def minutes_ago(at: datetime, now: datetime, lang: str) -> str:
    """`just now`, `4 min ago`, `3 h ago`, `2 days ago`."""
    minutes = max(0, int((now - at).total_seconds()) // 60)
    zh = is_chinese(lang)
    if minutes == 0:
        return "刚刚" if zh else "just now"
    if minutes < 120:
        return f"{minutes} 分钟前" if zh else f"{minutes} min ago"
    if minutes < 48 * 60:
        return f"{minutes // 60} 小时前" if zh else f"{minutes // 60} h ago"
    return f"{minutes // 1440} 天前" if zh else f"{minutes // 1440} days ago"


def took(milliseconds: int, lang: str) -> str:
    """How long an answer took: `0.4 s`, `9 s`, `3 min`."""
    zh = is_chinese(lang)
    if milliseconds < 10_000:
        return f"{milliseconds // 1000}.{milliseconds % 1000 // 100} {'秒' if zh else 's'}"
    if milliseconds < 120_000:
        return f"{milliseconds // 1000} {'秒' if zh else 's'}"
    return f"{milliseconds // 60_000} {'分钟' if zh else 'min'}"


def listed(words: Iterable[str], lang: str) -> str:
    """`a, b, c` or `a、b、c`."""
    return ("、" if is_chinese(lang) else ", ").join(words)


def _rounded(at: datetime, now: datetime) -> datetime:
    """A forecast is no better than ten minutes within a day and half an hour beyond it."""
    step_s = 600 if at - now < timedelta(hours=24) else 1800
    return datetime.fromtimestamp(round(at.timestamp() / step_s) * step_s, tz=at.tzinfo)


def _day_stamp(day: date, today: date, lang: str) -> str:
    near = abs((today - day).days) <= NEAR_DAYS + 1
    if not near:
        return date_text(day, lang, today=today)
    if is_chinese(lang):
        return f"{day.month}月{day.day}日 {_DAYS_ZH[day.weekday()]}"
    return f"{day_name(day, lang)} {day.day}"


def _comma(lang: str) -> str:
    return " " if is_chinese(lang) else ", "
