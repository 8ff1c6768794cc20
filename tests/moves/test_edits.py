"""Charged readings put right: the exact model's cents, no watt-hour lost, and nothing by the back door."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import date, datetime, timedelta
from math import floor
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from django.db import ProgrammingError, connection
from tests.billing.test_rerating import (
    AUTUMN,
    CHARGES,
    Life,
    _set_terms,
    charged,
    correct,
    stepped,
    tariff,
)
from tests.conftest import role_dsn
from tests.invariants.checks import books_hold, in_threads
from tests.invariants.places import (
    NOW,
    OPENED,
    TARIFF,
    World,
    at,
    one,
    place,
    post,
    rows,
    send,
    signed_in,
)
from tests.moves.world import snapshot, tenant

import prewatt.moves.operations as moves
from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused, scope, system_actor
from prewatt.billing.memory import Memory
from prewatt.billing.tariffs import TariffBook
from prewatt.billing.tasks import rate_anew
from prewatt.core.accounts import TransferKind
from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.readings import Quality
from prewatt.core.vee import Verdict
from prewatt.ledger.operations import KeyReused, close_period
from prewatt.moves import edits
from prewatt.moves.edits import (
    EditRefused,
    ReadingCorrected,
    edit_reading,
    rehearse_edit,
    withdraw_reading,
)

pytestmark = pytest.mark.usefixtures("database")

NIGHT_AND_DAY: Final[dict[str, Any]] = {
    "format": "prewatt-tariff/1",
    "name": "Night and day",
    "currency": "EUR",
    "energy": {
        "unit": "kWh",
        "bands": {"day": {"price": "0.3"}, "night": {"price": "0.1"}},
        "schedule": [
            {
                "periods": [
                    {"from": "00:00", "until": "06:00", "band": "night"},
                    {"from": "06:00", "until": "24:00", "band": "day"},
                ]
            }
        ],
    },
}
#: Random lives; a sweep has more.
LIVES = int(os.environ.get("PREWATT_TEST_LIVES", "2"))


def owner(here: World) -> Actor:
    """Who owns the tables and needs nobody: what others have to agree to is tried apart."""
    return system_actor("owner", (here.property_id,))


def edit(here: World, when: datetime, value_wh: int, **other: Any) -> ReadingCorrected:
    """The tenant's reading is put right."""
    return edit_reading(
        **{
            "actor": owner(here),
            "meter_id": here.meters["M-101"],
            "register_code": 1,
            "read_at": when,
            "value_wh": value_wh,
            "reason": "Misread: a 5 for a 9",
            "proof": "photo 17",
            "key": f"{here.property_id}:{when.isoformat()}:{value_wh}",
            "now": NOW,
            **other,
        }
    )


def withdraw(here: World, when: datetime, **other: Any) -> ReadingCorrected:
    """The tenant's reading counts no longer."""
    return withdraw_reading(
        **{
            "actor": owner(here),
            "meter_id": here.meters["M-101"],
            "register_code": 1,
            "read_at": when,
            "reason": "Another meter's",
            "proof": "call 4711",
            "key": f"{here.property_id}:{when.isoformat()}:withdrawn",
            "now": NOW,
            **other,
        }
    )


def misread() -> World:
    """A day of the tenant's: at six in the morning somebody wrote 9 kWh for 5."""
    here = place(document=NIGHT_AND_DAY)
    send(here, [("M-101", at(6), 9_000), ("M-101", at(22), 17_000)])
    return here


def standing(here: World) -> list[tuple[Any, ...]]:
    """(from, to, Wh, µ) of the tenant's segments that nothing took back."""
    return rows(
        """SELECT from_at, to_at, energy_wh, charge_energy FROM interval i
           WHERE account_id = %s AND segment < 10000 AND NOT EXISTS (
               SELECT FROM interval r WHERE (r.account_id, r.meter_id, r.start_at, r.revision,
                   r.segment) = (i.account_id, i.meter_id, i.start_at, i.revision + 1,
                   i.segment + 10000))
           ORDER BY from_at""",
        here.accounts["1001"],
    )


# --- the worked example of docs/corrections.md ---


def test_the_worked_example_of_the_documentation() -> None:
    here = misread()
    account = here.accounts["1001"]
    assert [each[2:] for each in standing(here)] == [(8_000, 800_000), (8_000, 2_400_000)]
    post(here)
    seen = rehearse_edit(
        actor=here.administrator, meter_id=here.meters["M-101"], register_code=1, read_at=at(6),
        value_wh=5_000, now=NOW,
    )  # fmt: skip
    done = edit(here, at(6), 5_000)
    assert done == seen
    assert (done.before_was_wh, done.before_wh) == (8_000, 4_000)
    assert (done.after_was_wh, done.after_wh) == (8_000, 12_000)
    assert (done.charged_before_micro, done.charged_after_micro) == (3_200_000, 4_000_000)
    assert [each[2:] for each in standing(here)] == [(4_000, 400_000), (12_000, 3_600_000)]
    books_hold(here)
    post(here)
    books_hold(here)
    legs = rows(
        """SELECT t.kind, t.band, t.amount, t.energy_wh, c.kind, c.band, c.amount
           FROM transfer t JOIN transfer c ON c.account_id = t.account_id
               AND c.seq = t.corrects_seq AND c.event_id = t.corrects_event_id
           WHERE t.account_id = %s ORDER BY t.amount""",
        account,
    )
    assert {each[4] for each in legs} == {int(TransferKind.USAGE)}
    assert [(each[2], each[6], each[1] == each[5]) for each in legs] == [
        (-1_200_000, -2_400_000, True),
        (400_000, -800_000, True),
    ]
    messages = rows(
        "SELECT detail ->> 'added_micro' FROM message WHERE account_id = %s AND code = 'billing.corrected'",
        account,
    )
    assert messages == [("800000",)]
    text = Path(__file__).parents[2].joinpath("docs/corrections.md").read_text()
    for figure in ("0.80 + 2.40 = 3.20", "0.40 + 3.60 = 4.00", "+0.40", "−1.20", "0.80 more"):
        assert figure in text.split("## A reading that was wrong")[1].split("\n## ")[0], figure


def test_what_the_meter_said_stays_and_the_edit_says_who_and_why() -> None:
    here = misread()
    edit(here, at(6), 5_000)
    edit(here, at(6), 5_500)
    assert rows(
        "SELECT revision, value_wh, quality, source FROM register_reading WHERE read_at = %s "
        "ORDER BY 1", at(6),
    ) == [(0, 9_000, 1, 1), (1, 5_000, 4, 2), (2, 5_500, 4, 2)]  # fmt: skip
    events = rows(
        """SELECT actor, detail ->> 'was_wh', detail ->> 'value_wh', detail ->> 'proof'
           FROM audit_event WHERE code = 'mdm.reading.edited' ORDER BY 2"""
    )
    assert events == [
        (owner(here).code, "5000", "5500", "photo 17"),
        (owner(here).code, "9000", "5000", "photo 17"),
    ]
    # The meter repeats what it said, and changes nothing: neither a charge nor a held reading.
    before = snapshot()
    assert (
        send(here, [("M-101", at(6), 9_000), ("M-101", at(22), 17_000)]) == [Verdict.DUPLICATE] * 2
    )
    assert send(here, [("M-101", at(6), 9_001)]) == [Verdict.CONFLICT]
    assert snapshot()["interval"] == before["interval"]


@pytest.mark.parametrize("value_wh", [16_000, 19_000])
def test_the_watermark_moves_with_the_last_reading(value_wh: int) -> None:
    here = misread()
    account = here.accounts["1001"]
    book, memory = TariffBook(), Memory()
    send(here, [("M-101", at(22.25), 17_000)], book=book, memory=memory)
    done = edit(here, at(22.25), value_wh) if value_wh > 17_000 else None
    if done is None:
        with pytest.raises(EditRefused) as refused:
            edit(here, at(22.25), value_wh)
        assert refused.value.reason == "mdm.vee.backwards"
        done = edit(here, at(22), value_wh)
        assert done.after_wh == 1_000 and done.difference_micro == 0
        done = edit(here, at(22.25), value_wh)
    post(here)
    assert done.difference_micro == (value_wh - 17_000) * 300
    assert one("SELECT last_value_wh FROM meter_state WHERE account_id = %s", account) == value_wh
    assert one("SELECT sum(energy_wh) FROM interval WHERE account_id = %s", account) == (
        value_wh - 1_000
    )
    books_hold(here)
    # A head-end that remembers the former value finds out, and goes on from the right one.
    assert send(here, [("M-101", at(22.25), 17_000)], book=book, memory=memory) == [
        Verdict.DUPLICATE
    ]
    assert send(here, [("M-101", at(22.5), value_wh + 100)], book=book, memory=memory) == [
        Verdict.ACCEPTED
    ]
    assert charged(here, "energy_wh") == value_wh - 900
    books_hold(here)


def test_a_withdrawn_reading_joins_its_intervals_and_can_come_back() -> None:
    here = misread()
    post(here)
    done = withdraw(here, at(6))
    assert (done.value_wh, done.before_wh + done.after_wh) == (None, 16_000)
    # Six of twenty-two hours are night: the energy is spread evenly over the time.
    night = 16_000 * 6 // 22
    assert sorted(each[2] for each in standing(here)) in (
        [night, 16_000 - night],
        [night + 1, 15_999 - night],
    )
    assert rows(
        "SELECT DISTINCT quality FROM interval WHERE account_id = %s AND start_at = %s AND revision = 1"
        " AND segment < 10000", here.accounts["1001"], OPENED,
    ) == [(int(Quality.ESTIMATED),)]  # fmt: skip
    post(here)
    books_hold(here)
    with pytest.raises(EditRefused) as refused:
        withdraw(here, at(6), key="once more")
    assert refused.value.reason == "withdrawn"
    # Neither the meter's repeat nor a late reading beyond it brings it back.
    assert send(here, [("M-101", at(6), 9_000)]) == [Verdict.DUPLICATE]
    assert send(here, [("M-101", at(10), 8_000)]) == [Verdict.BACKFILL]
    books_hold(here)
    done = edit(here, at(6), 5_000)
    assert [each[2] for each in standing(here)] == [4_000, 3_000, 9_000]
    assert charged(here) == 400_000 + 3_600_000
    post(here)
    books_hold(here)
    assert send(here, [("M-101", at(3), 2_000)]) == [Verdict.BACKFILL]
    books_hold(here)


# --- refusals ---


def _asks(here: World) -> dict[str, Callable[[], object]]:
    return {
        "unknown": lambda: edit(here, at(6), 5_000, meter_id=10**9),
        "register": lambda: edit(here, at(6), 5_000, register_code=3),
        "no_reading": lambda: edit(here, at(7), 5_000),
        "boundary": lambda: edit(here, OPENED, 500),
        "same": lambda: edit(here, at(6), 9_000),
        "modulus": lambda: edit(here, at(6), 10**15),
        "last": lambda: withdraw(here, at(22)),
        "no_reason": lambda: edit(here, at(6), 5_000, reason=" "),
        "no_proof": lambda: edit(here, at(6), 5_000, proof=""),
        "mdm.vee.backwards": lambda: edit(here, at(6), 17_001),
        "mdm.vee.implausible": lambda: edit(here, at(22), 10_000_000),
    }


@pytest.mark.parametrize("reason", list(_asks(None)))  # type: ignore[arg-type]
def test_an_edit_that_cannot_be_is_refused_and_changes_nothing(reason: str) -> None:
    here = misread()
    before = snapshot()
    with pytest.raises(EditRefused) as refused:
        _asks(here)[reason]()
    assert refused.value.reason == reason and snapshot() == before


def test_usage_that_is_archived_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    here = misread()
    before = snapshot()
    for earliest in (at(22.5), at(1)):
        monkeypatch.setattr(edits, "correctable_from_us", lambda *_: instant_us(earliest))  # noqa: B023
        for deed in (lambda: edit(here, at(6), 5_000), lambda: withdraw(here, at(6))):
            with pytest.raises(EditRefused) as refused:
                deed()
            assert refused.value.reason == "mdm.vee.archived" and snapshot() == before


def test_a_value_before_the_reading_before_is_backwards_and_a_negative_one_beyond_the_register() -> (
    None
):
    here = misread()
    for value, reason in ((999, "mdm.vee.backwards"), (-1, "modulus")):
        with pytest.raises(EditRefused) as refused:
            edit(here, at(6), value)
        assert refused.value.reason == reason


def test_the_boundary_of_two_tenants_is_no_edits_and_a_former_tenants_reading_is() -> None:
    here = misread()
    moves.tenant_change(
        actor=here.administrator, unit_id=here.units["101"], at=at(23), key="over", now=NOW,
        tenant=tenant(), registers=here.register("M-101", 17_500),
    )  # fmt: skip
    for deed in (lambda: edit(here, at(23), 17_400), lambda: withdraw(here, at(23))):
        with pytest.raises(EditRefused) as refused:
            deed()
        assert refused.value.reason == "boundary"
    others = "SELECT s::text FROM account_state s WHERE account_id <> %s ORDER BY 1"
    before = rows(others, here.accounts["1001"])
    assert edit(here, at(6), 5_000).account_id == here.accounts["1001"]
    assert rows(others, here.accounts["1001"]) == before
    books_hold(here)


def test_a_late_boundary_at_a_withdrawn_reading_takes_nobodys_agreement() -> None:
    here = misread()
    withdraw(here, at(6))
    moves.tenant_change(
        actor=here.administrator, unit_id=here.units["101"], at=at(6), key="over", now=NOW,
        tenant=tenant(), registers=here.register("M-101", 5_500),
    )  # fmt: skip
    assert rows(
        "SELECT revision, value_wh, quality FROM register_reading WHERE read_at = %s ORDER BY 1",
        at(6),
    ) == [(0, 9_000, 1), (1, 9_000, 5), (2, 5_500, 1)]
    books_hold(here)


@pytest.mark.parametrize("duty", [Duty.OPERATOR, Duty.AUDITOR])
def test_only_an_administrator_edits_and_at_their_own_property(duty: Duty) -> None:
    here, other = misread(), place()
    before = snapshot()
    for deed in (
        lambda **who: edit(here, at(6), 5_000, **who),
        lambda **who: withdraw(here, at(6), **who),
    ):
        with pytest.raises(PermissionRefused):
            deed(actor=Actor("user:8", duty, (here.property_id,)))
        with pytest.raises(EditRefused) as refused:
            deed(actor=other.administrator)
        assert refused.value.reason == "unknown"
    assert snapshot() == before


def test_the_administrators_login_alone_edits_nothing_whatever_way_it_goes(database: str) -> None:
    here = misread()
    post(here)
    before = snapshot()
    written = """INSERT INTO register_reading (meter_id, register_code, read_at, revision, property_id, account_id,
                     value_wh, quality, source, received_at)
                 SELECT meter_id, register_code, read_at, revision + 1, property_id, account_id, 5000, %s, 2, %s
                 FROM register_reading WHERE read_at = %s"""
    revised = "SELECT revise_reading(%s, %s, 1, %s, 1, %s, 5000, %s)"
    of = (here.property_id, here.meters["M-101"], at(6), here.accounts["1001"], NOW)
    with signed_in(role_dsn(database, "web"), database):
        looked = rehearse_edit(
            actor=here.administrator, meter_id=here.meters["M-101"], register_code=1,
            read_at=at(6), value_wh=5_000, now=NOW,
        )  # fmt: skip
        assert looked.difference_micro == 800_000
        for deed in (
            lambda: edit(here, at(6), 5_000, actor=here.administrator),
            lambda: withdraw(here, at(6), actor=here.administrator),
            lambda: _straight(here, revised, *of),
            *(
                lambda quality=quality: _straight(here, written, int(quality), NOW, at(6))
                for quality in (Quality.EDITED, Quality.WITHDRAWN, Quality.MEASURED)
            ),
        ):
            with pytest.raises(ProgrammingError, match=r"agreement of others|row-level security"):
                deed()
    assert snapshot() == before


def _straight(here: World, query: str, *values: object) -> None:
    with scope(here.administrator), connection.cursor() as cursor:
        cursor.execute(query, values)


def test_one_key_is_one_edit() -> None:
    here = misread()
    done = edit(here, at(6), 5_000, key="k")
    before = snapshot()
    again = edit(here, at(6), 5_000, key="k")
    assert again.repeated and again.charged_after_micro == done.charged_after_micro
    with pytest.raises(KeyReused):
        edit(here, at(6), 5_001, key="k")
    assert snapshot() == before


def test_days_of_closed_books_are_corrected_in_the_open_ones() -> None:
    here = place("2026-10-20T00:00", document=NIGHT_AND_DAY)
    day = datetime.fromisoformat("2026-10-20T00:00+02:00")
    send(
        here,
        [("M-101", day + timedelta(hours=6), 9_000), ("M-101", day + timedelta(hours=22), 17_000)],
    )
    post(here)
    close_period(
        actor=here.administrator, property_id=here.property_id,
        open_from=date(2026, 11, 1), now=NOW,
    )  # fmt: skip
    last = one("SELECT max(seq) FROM transfer WHERE account_id = %s", here.accounts["1001"])
    edit(here, day + timedelta(hours=6), 5_000)
    post(here)
    found = rows(
        "SELECT amount, corrects_seq IS NOT NULL, service_from >= %s FROM transfer "
        "WHERE account_id = %s AND seq > %s ORDER BY 1", OPENED, here.accounts["1001"], last,
    )  # fmt: skip
    assert found == [(-1_200_000, True, True), (400_000, True, True)]
    books_hold(here)


def test_edits_and_readings_at_once_leave_whole_books() -> None:
    here = misread()
    readings = [("M-101", at(22 + each / 4), 17_000 + 50 * each) for each in range(1, 9)]
    answers = in_threads(
        *[lambda each=each: send(here, [each]) for each in readings],
        lambda: edit(here, at(6), 5_000),
        lambda: edit(here, at(22), 16_000, key="another"),
        lambda: withdraw(here, at(6), key="and back"),
    )
    assert not [each for each in answers if isinstance(each, AssertionError)], answers
    assert not [each for each in answers if isinstance(each, Exception)], answers
    last = one("SELECT last_value_wh FROM meter_state WHERE account_id = %s", here.accounts["1001"])
    assert charged(here, "energy_wh") == last - 1_000
    books_hold(here)


# --- random lives ---


def _live(seed: int, *, steps: bool) -> tuple[World, Life]:
    """Readings in any order, edited, withdrawn and brought back between postings."""
    random = Random(seed)
    document = stepped(random, extras=False) if steps else TARIFF
    while steps and document["energy"]["steps"]["window"] == "purchase":
        document = stepped(random, extras=False)
    here = place("2026-10-23T00:00")
    life = Life({instant_us(AUTUMN): 1_000}, [(0, document)])
    _set_terms(here, life, AUTUMN, 1)
    if steps:
        tariff(here, "stepped", document)
        correct(here, "stepped", AUTUMN)
    when, count, gone = AUTUMN, 1_000, set[int]()
    for number in range(random.randrange(8, 30)):
        when += timedelta(seconds=random.choice([900, 3_600, 17_777, 86_400]))
        count += random.choice([0, 1, 2_000, random.randrange(15_000)]) if number else 3_000
        held = send(here, [("M-101", when, count)])
        if held != [Verdict.ACCEPTED]:
            continue
        life.known[instant_us(when)] = count
        for _ in range(random.randrange(3)):
            _disturb(here, life, random, gone)
        count = max(life.known.values())
        if random.random() < 0.3:
            post(here, until=random.choice([NOW, when]))
    return here, life


def _disturb(here: World, life: Life, random: Random, gone: set[int]) -> None:
    """One edit or withdrawal that can be, or cannot and is refused."""
    instants = sorted(life.known)
    at_us = random.choice([*instants[1:], *gone])
    key = f"{random.random()}"
    earlier = max(each for each in instants if each < at_us)
    later = min((each for each in instants if each > at_us), default=None)
    low = life.known[earlier]
    high = life.known[later] if later else low + random.randrange(3_000)
    try:
        if at_us in life.known and random.random() < 0.4:
            withdraw(here, utc_datetime(at_us), key=key)
            del life.known[at_us]
            gone.add(at_us)
        else:
            value = random.choice([low, high, random.randint(low, max(low, high))])
            edit(here, utc_datetime(at_us), value, key=key)
            life.known[at_us] = value
            gone.discard(at_us)
    except EditRefused as refused:
        if refused.reason not in ("same", "last", "mdm.vee.implausible"):
            raise


@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize("seed", range(LIVES))
def test_any_life_of_edits_ends_in_the_exact_models_cents(seed: int, steps: bool) -> None:
    here, life = _live(seed, steps=steps)
    rate_anew(now=NOW)
    exact = life.exact()
    assert charged(here, "energy_wh") == max(life.known.values()) - 1_000
    sums = {name: charged(here, f"charge_{name}") for name in CHARGES}
    assert sums == {name: floor(getattr(exact, name)) for name in CHARGES}
    books_hold(here)
    post(here)
    books_hold(here)
