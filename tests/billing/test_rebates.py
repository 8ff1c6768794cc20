"""Rebates of announced peaks: paid to the micro-unit of a model of fractions, and put right later."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from math import floor
from random import Random
from typing import Any

import pytest
from django.db import connection
from django.utils import translation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.billing.days_world import BERLIN, local, place, plan
from tests.conftest import role_dsn
from tests.invariants.places import rows, send, signed_in
from tests.moves.world import World

from cases import cases
from prewatt.access.scope import system_actor
from prewatt.billing.tasks import settle_peaks
from prewatt.billing.terms import announce_event, set_terms, withdraw_event
from prewatt.core.accounts import TransferKind
from prewatt.core.rating import Component
from prewatt.reports.account import EntryKind
from prewatt.reports.books import check_books
from prewatt.reports.charge_query import charge_page
from prewatt.web.ui.charge_words import line_text
from prewatt.web.ui.messages import compile_all

pytestmark = pytest.mark.usefixtures("database")

SYSTEM = system_actor("test")
OPENED = "2026-10-01T00:00"
HOUR = timedelta(hours=1)
Reading = tuple[datetime, int]


def rebate(**given: Any) -> dict[str, Any]:
    return {"kind": "critical_peak", "group": "flats", "rebate": "0.7654321"} | given


def peak_place(overlay: dict[str, Any], **parts: Any) -> World:
    here = place(plan(overlays=[overlay], **parts), OPENED)
    set_terms(
        actor=SYSTEM, property_id=here.property_id, account_id=here.accounts["1001"],
        valid_from=local(OPENED), members=1, contracted_w=0, overlay_groups=["flats"],
        now=local(OPENED),
    )  # fmt: skip
    return here


def announce(here: World, begin: str, end: str) -> int:
    return announce_event(
        actor=SYSTEM, property_id=here.property_id, overlay_group="flats",
        from_at=local(begin), until_at=local(end), now=local(OPENED),
    )  # fmt: skip


def deliver(here: World, readings: Sequence[Reading], now: str = "2026-12-31T00:00") -> None:
    for at in range(0, len(readings), 2_000):
        send(here, [("M-101", *each) for each in readings[at : at + 2_000]], now=local(now))


def truth(until: str, wh: Any, minutes: int = 60) -> list[Reading]:
    """Readings from the opening on; ``wh`` says what each interval's local begin used."""
    at, value, found = local(OPENED), 1_000, []
    while at < local(until):
        value += wh(at.astimezone(BERLIN))
        at += timedelta(minutes=minutes)
        found.append((at, value))
    return found


def booked(here: World) -> list[tuple[Any, ...]]:
    """(kind, component, code, amount, corrects_seq, seq) of all that peaks gave back or took."""
    return rows(
        """SELECT kind, component, code, amount, corrects_seq, seq FROM transfer
           WHERE account_id = %s AND reason = 'rebate.event' ORDER BY seq""",
        here.accounts["1001"],
    )


def outcomes(here: World) -> list[tuple[Any, ...]]:
    return rows(
        """SELECT revision, outcome, used_wh, usual_wh, counted, amount_micro FROM event_rebate
           WHERE account_id = %s ORDER BY event_id, revision""",
        here.accounts["1001"],
    )


def books_hold(here: World) -> None:
    with connection.cursor() as cursor:
        assert check_books(cursor, [here.property_id]) == []
    assert rows(
        """SELECT coalesce(sum(amount), 0)::bigint FROM transfer
           WHERE property_id = %s AND component = %s""",
        here.property_id, int(Component.REBATE),
    ) == rows(
        """SELECT coalesce(sum(amount_micro), 0)::bigint FROM (
               SELECT DISTINCT ON (account_id, event_id) amount_micro FROM event_rebate
               WHERE property_id = %s ORDER BY account_id, event_id, revision DESC) AS latest""",
        here.property_id,
    )  # fmt: skip


def explained(here: World, kind: EntryKind, language: str) -> list[str]:
    """The first charge of the peak's day of a kind, opened, in words."""
    transfer = TransferKind.DAILY if kind is EntryKind.DAILY else TransferKind.CORRECTION
    event = rows(
        "SELECT event_id FROM transfer WHERE account_id = %s AND kind = %s ORDER BY seq LIMIT 1",
        here.accounts["1001"], int(transfer),
    )[0][0]  # fmt: skip
    compile_all()
    with translation.override(language):
        page = charge_page(
            actor=here.administrator, account_id=here.accounts["1001"], event_id=event, kind=kind,
            day=date(2026, 11, 18), now=local("2026-11-30T00:00"),
        )  # fmt: skip
        return [line_text(line, "EUR", language) for line in page.lines]


# --- the model: fractions, one window after another, by the wall clock's own library ---


def used_in(readings: Sequence[Reading], begin: datetime, end: datetime) -> int | None:
    """Whole Wh of [begin, end), or None where an hour of it is not known."""
    total, covered = 0, timedelta(0)
    before: Reading = (local(OPENED), 1_000)
    for at, value in readings:
        start, wh = before[0], value - before[1]
        before = (at, value)
        low, high = max(start, begin), min(at, end)
        if low >= high or at - start > HOUR:
            continue
        covered += high - low
        length = Fraction((at - start) // timedelta(microseconds=1))
        for edge, sign in ((high, 1), (low, -1)):
            total += sign * floor(
                wh * Fraction((edge - start) // timedelta(microseconds=1)) / length
            )
    return total if covered == end - begin else None


def expected(
    readings: Sequence[Reading],
    event: tuple[datetime, datetime],
    overlay: dict[str, Any],
    others: Sequence[date] = (),
) -> tuple[str, int]:
    """(outcome, micro-units) of an event within one day."""
    begin, end = (each.astimezone(BERLIN) for each in event)
    used = used_in(readings, *event)
    if used is None:
        return "not_measured", 0
    found: list[int] = []
    wanted = overlay["baseline_days"]
    for back in range(1, max(45, 2 * wanted + 14) + 1):
        day = begin.date() - timedelta(days=back)
        alike = (day.weekday() >= 5) == (begin.weekday() >= 5)
        window = [
            datetime.combine(day, each.time(), BERLIN).astimezone(UTC) for each in (begin, end)
        ]
        if not alike or day in others or window[1] - window[0] != event[1] - event[0]:
            continue
        if window[0] < local(OPENED):
            break
        wh = used_in(readings, window[0], window[1])
        if wh is not None and len(found) < wanted:
            found.append(wh)
    if len(found) < wanted:
        return "too_few_days", 0
    highest = overlay.get("baseline_highest", wanted)
    mean = Fraction(sum(sorted(found, reverse=True)[:highest]), highest)
    micro = floor(max(Fraction(0), mean - used) / 1_000 * Fraction(overlay["rebate"]) * 10**6)
    return ("paid" if micro else "not_less"), micro


@settings(
    max_examples=cases(4),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**32))
def test_what_is_paid_is_what_fractions_come_to(database: str, seed: int) -> None:
    random = Random(seed)
    days = random.randrange(1, 9)
    overlay = rebate(baseline_days=days)
    if random.random() < 0.6:
        overlay["baseline_highest"] = random.randrange(1, days + 1)
    here = peak_place(overlay, taxes=[{"code": "vat", "rate": "19", "inclusive": True}])
    minutes = random.choice([15, 30, 60])
    whole = truth("2026-11-20T00:00", lambda _: random.randrange(0, 3_000), minutes)
    # Some readings never come: hours that nobody can compare with.
    readings = [each for each in whole if random.random() > 0.004]
    day = random.choice(["2026-11-17", "2026-11-18", "2026-11-15"])
    start = datetime.fromisoformat(day) + timedelta(minutes=random.randrange(0, 1_200))
    begin, end = (
        start.isoformat(),
        (start + timedelta(minutes=random.randrange(1, 200))).isoformat(),
    )
    announce(here, "2026-11-10T18:00", "2026-11-10T20:00")
    event = announce(here, begin, end)
    deliver(here, readings)
    assert settle_peaks(now=local(end) + 24 * HOUR - timedelta(minutes=1)) >= 0
    assert not rows("SELECT 1 FROM event_rebate WHERE event_id = %s", event), (
        "it waits for readings"
    )
    settle_peaks(now=local(end) + 24 * HOUR)
    others = [date(2026, 11, 10)]
    outcome, micro = expected(readings, (local(begin), local(end)), overlay, others)
    assert rows(
        "SELECT outcome, amount_micro FROM event_rebate WHERE event_id = %s", event
    ) == [(outcome, micro)], (seed, overlay, begin, end)  # fmt: skip
    before = booked(here), outcomes(here)
    for hours in (24, 30, 48, 24 * 40):
        settle_peaks(now=local(end) + hours * HOUR)
    assert (booked(here), outcomes(here)) == before, "a look that finds nothing writes nothing"
    assert all(component == Component.REBATE for _, component, *_ in before[0]), "no tax is on it"
    books_hold(here)


def evening(at: datetime) -> int:
    """A kilowatt-hour in each hour of the evening, 100 Wh in every other, and less on the 18th."""
    if time(17) <= at.time() < time(20):
        return 600 if at.date() == date(2026, 11, 18) else 1_000 + at.day
    return 100


def test_late_readings_put_it_right_and_name_what_they_correct() -> None:
    here = peak_place(rebate(baseline_days=3))
    event = announce(here, "2026-11-18T17:00", "2026-11-18T20:00")
    whole = truth("2026-11-20T00:00", evening)
    hidden = {
        "event": (local("2026-11-18T16:30"), local("2026-11-18T20:30")),
        "baseline": (local("2026-11-17T17:30"), local("2026-11-17T19:30")),
    }

    def of(*names: str) -> list[Reading]:
        return [each for each in whole if any(a < each[0] < b for a, b in map(hidden.get, names))]

    late = of("event", "baseline")
    deliver(here, [each for each in whole if each not in late])
    end = local("2026-11-18T20:00")
    settle_peaks(now=end + 24 * HOUR)
    assert [each[1] for each in outcomes(here)] == ["not_measured"]
    assert booked(here) == []
    deliver(here, of("event"))
    settle_peaks(now=end + 48 * HOUR)
    # The 17th is not known, so the 16th, 13th and 12th are compared with: 3 × (16 + 13 + 12) above.
    usual = 3 * (3_000 + 16 + 13 + 12)
    first = (usual - 3 * 1_800) * 765_432_100 // (3 * 10**6)
    assert outcomes(here)[1] == (1, "paid", 1_800, usual, 3, first)
    code = f"event-{event}"
    assert [each[:5] for each in booked(here)] == [(10, Component.REBATE, code, first, None)]
    deliver(here, of("baseline"))
    settle_peaks(now=end + 72 * HOUR)
    usual = 3 * (3_000 + 17 + 16 + 13)
    second = (usual - 3 * 1_800) * 765_432_100 // (3 * 10**6)
    paid, correction = booked(here)
    assert correction[:5] == (9, Component.REBATE, code, second - first, paid[5])
    (english,) = explained(here, EntryKind.CORRECTION, "en")
    assert english.startswith("You used 1.800 kWh in the announced peak, your usual is 3.046 kWh (")
    assert english.endswith("€0.7654321 back for each kWh less")
    (chinese,) = explained(here, EntryKind.DAILY, "zh-hans")
    assert "您用电 1.800 度，平时为 3.041 度" in chinese
    # A group that the account turns out not to have followed takes it back.
    set_terms(
        actor=SYSTEM, property_id=here.property_id, account_id=here.accounts["1001"],
        valid_from=local("2026-11-18T00:00"), members=1, contracted_w=0,
        now=local("2026-11-24T00:00"),
    )  # fmt: skip
    settle_peaks(now=end + 8 * 24 * HOUR)
    assert [each[3] for each in booked(here)] == [first, second - first, -second]
    assert booked(here)[2][4] == correction[5]
    assert outcomes(here)[-1][1] == "no_rebate"
    books_hold(here)


def test_highest_days_and_other_peaks_are_chosen_by_the_stated_rule(database: str) -> None:
    here = peak_place(rebate(baseline_days=4, baseline_highest=2, wait_hours=1))
    announce(here, "2026-11-16T12:00", "2026-11-16T13:00")
    announce(here, "2026-11-18T17:00", "2026-11-18T20:00")
    deliver(here, truth("2026-11-20T00:00", evening))
    with signed_in(role_dsn(database, "clerk"), database):
        settle_peaks(now=local("2026-11-18T21:00"))
    # Of the 17th, 13th, 12th and 11th the highest two: the 16th had a peak, 14 and 15 are a weekend.
    usual = 2 * 3_000 + 3 * (17 + 13)
    assert outcomes(here)[-1] == (
        0, "paid", 1_800, usual, 2, (usual - 2 * 1_800) * 765_432_100 // (2 * 10**6),
    )  # fmt: skip
    (days,) = rows("SELECT days FROM event_rebate WHERE outcome = 'paid'")[0]
    days = json.loads(days) if isinstance(days, str) else days
    assert [each[0] for each in days] == ["2026-11-17", "2026-11-13", "2026-11-12", "2026-11-11"]
    books_hold(here)


def test_too_few_days_no_saving_a_withdrawal_and_a_closed_account_pay_nothing_and_say_why() -> None:
    here = peak_place(rebate(baseline_days=40))
    announce(here, "2026-11-18T17:00", "2026-11-18T20:00")
    deliver(here, truth("2026-11-20T00:00", evening))
    settle_peaks(now=local("2026-11-19T20:00"))
    assert [each[1] for each in outcomes(here)] == ["too_few_days"]

    spent = peak_place(rebate(baseline_days=2))
    announce(spent, "2026-11-17T17:00", "2026-11-17T20:00")
    gone = announce(spent, "2026-11-18T17:00", "2026-11-18T20:00")
    withdraw_event(actor=SYSTEM, event_id=gone, now=local("2026-11-18T12:00"))
    # More than before on every day, so the latest is never below the mean of those before.
    deliver(spent, truth("2026-11-20T00:00", lambda at: 100 + at.timetuple().tm_yday))
    settle_peaks(now=local("2026-11-19T20:00"))
    assert [each[1] for each in outcomes(spent)] == ["not_less"]

    left = peak_place(rebate(baseline_days=2))
    announce(left, "2026-11-18T17:00", "2026-11-18T20:00")
    deliver(left, truth("2026-11-20T00:00", evening))
    rows(
        "UPDATE account SET closed_at = %s WHERE id = %s",
        local("2026-11-19T12:00"), left.accounts["1001"],
    )  # fmt: skip
    settle_peaks(now=local("2026-11-19T20:00"))
    assert outcomes(left) == []
    for each in (here, spent, left):
        assert booked(each) == []
        books_hold(each)
