"""Posting: nothing changes for the customer, everything is committed to, and twice is once."""

from __future__ import annotations

import hashlib
import struct
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.invariants.full_checks import LADDER
from tests.invariants.places import CLERK, NOW, TARIFF, at, one, place, post, rows, send

import prewatt.billing.operations as billing
from prewatt.billing import posting, unposted
from prewatt.billing.legs import divide
from prewatt.billing.operations import SelfApproval, create_tariff_version, post_usage
from prewatt.billing.tariffs import TariffBook
from prewatt.core.accounts import TransferKind
from prewatt.core.rating import Component
from prewatt.core.tariff import TariffRefused

pytestmark = pytest.mark.usefixtures("database")


def test_posting_leaves_the_available_balance_and_twice_is_once() -> None:
    here = place()
    account = here.accounts["1001"]
    send(here, [("M-101", at(each * 7), 1_000 + each * 1_111) for each in range(1, 9)])
    before = one("SELECT available FROM account_state WHERE account_id = %s", account)
    first = post_usage(
        actor=CLERK, now=NOW, until=at(24), cause="posting.daily", account_ids=[account]
    )
    again = post_usage(
        actor=CLERK, now=NOW, until=at(24), cause="posting.daily", account_ids=[account]
    )
    assert (first.accounts, again.accounts) == (1, 0)
    assert one("SELECT max(to_at) FROM interval i JOIN posting p USING (account_id) "
               "WHERE account_id = %s AND interval_no <= interval_no_to", account) <= at(24)  # fmt: skip
    post(here)
    assert one("SELECT available FROM account_state WHERE account_id = %s", account) == before
    assert one("SELECT accrued_energy FROM account_state WHERE account_id = %s", account) == 0
    assert one("SELECT spend_per_day > 0 FROM account_state WHERE account_id = %s", account)


def test_lanes_post_what_one_would_and_a_failure_in_one_is_raised_and_made_up_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(billing, "POSTING_CHUNK", 1)
    here, there = place(), place()
    for each in (here, there):
        for serial in ("M-101", "M-102", "M-LIFT"):
            send(each, [(serial, at(hour), 3_000 + 50 * hour) for hour in range(1, 20)])
    post(there)
    poison, real = here.accounts["V-A-102"], billing.post_chunk

    def fails(actor: Any, account_ids: list[int], **given: Any) -> Any:
        if poison in account_ids:
            raise DatabaseError("refused")
        return real(actor, account_ids, **given)

    def run() -> int:
        return post_usage(
            actor=CLERK, now=NOW, until=NOW, cause="posting.daily", lanes=2,
            account_ids=list(here.accounts.values()),
        ).accounts  # fmt: skip

    monkeypatch.setattr(billing, "post_chunk", fails)
    with pytest.raises(DatabaseError):
        run()
    monkeypatch.setattr(billing, "post_chunk", real)
    run()
    assert run() == 0
    sums = """SELECT a.number, s.posted, s.accrued_energy, s.posted_interval_no, encode(p.interval_hash, 'hex') IS NULL
              FROM account a JOIN account_state s ON s.account_id = a.id
              LEFT JOIN posting p USING (account_id) WHERE a.property_id = %s ORDER BY 1"""
    assert rows(sums, here.property_id) == rows(sums, there.property_id)


def test_a_late_arrival_enters_the_next_posting_under_its_own_day() -> None:
    here = place()
    account = here.accounts["1001"]
    send(here, [("M-101", at(1), 1_100), ("M-101", at(40), 60_000)])
    post(here)
    assert one("SELECT count(*) FROM posting WHERE account_id = %s", account) == 1
    # All of it was used in the first hours, when the price was the night's.
    send(here, [("M-101", at(5), 59_000)])
    corrected = one("SELECT accrued_energy FROM account_state WHERE account_id = %s", account)
    assert corrected < 0, "the correction is money back"
    post(here)
    first, second = rows(
        "SELECT interval_no_from, interval_no_to, energy_wh FROM posting WHERE account_id = %s "
        "ORDER BY posting_no",
        account,
    )
    assert second[0] == first[1] and second[2] == 0, "a re-split changes no energy"
    assert one(
        """SELECT min(service_from) FROM transfer t JOIN posting p USING (account_id, event_id)
           WHERE account_id = %s AND posting_no = 2""",
        account,
    ) < at(24)


def record(row: tuple[Any, ...]) -> bytes:
    """A row as PostgreSQL's record_send has it, made by the letter of its source (rowtypes.c)."""
    wide = {"smallint": (21, ">h"), "integer": (23, ">i"), "bigint": (20, ">q"),
            "timestamptz": (1184, ">q")}  # fmt: skip
    image = struct.pack(">i", len(row))
    for kind, value in row:
        oid, code = wide[kind]
        image += struct.pack(">Ii", oid, struct.calcsize(code)) + struct.pack(code, value)
    return image


@pytest.mark.parametrize("at_once", [unposted._READ_MAX, 1, 2])
def test_a_posting_commits_to_its_intervals(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In however many parts they were read: a value of PostgreSQL ends at 1 GB."""
    monkeypatch.setattr(unposted, "_READ_MAX", at_once)
    here = place()
    account = here.accounts["1001"]
    send(here, [("M-101", at(6), 1_777), ("M-101", at(20), 3_777)])
    post(here)
    since_2000 = "(extract(epoch FROM {} - timestamptz '2000-01-01 UTC') * 1000000)::bigint"
    kinds = (
        "bigint smallint timestamptz smallint smallint bigint timestamptz timestamptz bigint bigint "
        "integer bigint smallint bigint smallint smallint bigint" + 6 * " bigint"
    ).split()
    images = [
        record(tuple(zip(kinds, row, strict=True)))
        for row in rows(
            f"""SELECT meter_id, register_code, {since_2000.format("start_at")}, revision, segment,
                      interval_no, {since_2000.format("from_at")}, {since_2000.format("to_at")},
                      start_value_wh, end_value_wh, multiplier, energy_wh, quality, tariff_version_id,
                      band, step, price_nano, charge_energy, charge_standing, charge_tax, charge_fee,
                      charge_demand, charge_subsidy
               FROM interval WHERE account_id = %s ORDER BY interval_no""",
            account,
        )
    ]
    assert len(images) > 2
    [(committed, version)] = rows(
        "SELECT interval_hash, hash_version FROM posting WHERE account_id = %s", account
    )
    assert (bytes(committed), version) == (hashlib.sha256(b"".join(images)).digest(), 3)
    swapped = [images[1], images[0], *images[2:]]
    assert bytes(committed) != hashlib.sha256(b"".join(swapped)).digest(), "their order counts"


def test_what_happens_between_the_reading_and_the_locks_is_posted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody posts, a late reading comes, and an account that had nothing to post uses something."""
    here = place()
    account = here.accounts["1001"]
    send(here, [("M-101", at(6), 1_777), ("M-102", at(6), 1_200)])
    real, happened = posting.lock_numbers, []

    def lock(account_ids: Any) -> Any:
        if not happened:
            happened.append(True)
            post_usage(actor=CLERK, now=NOW, until=at(6), cause="other", account_ids=[account])
            send(here, [("M-101", at(7), 2_777), ("M-102", at(7), 1_500), ("M-LIFT", at(7), 1_500)])
        return real(account_ids)

    monkeypatch.setattr(posting, "lock_numbers", lock)
    post(here)
    for each in here.accounts.values():
        [(last, posted_no, accrued)] = rows(
            "SELECT interval_no, posted_interval_no, accrued_energy FROM account_state "
            "WHERE account_id = %s",
            each,
        )
        assert (posted_no, accrued) == (last, 0)
        ranges = rows(
            "SELECT interval_no_from, interval_no_to FROM posting WHERE account_id = %s "
            "ORDER BY posting_no",
            each,
        )
        edges = [0, *(to for _, to in ranges)]
        assert [before for before, _ in ranges] == edges[:-1]
    charged = one(
        "SELECT sum(charge_energy) FROM interval JOIN account a ON a.id = account_id "
        "WHERE a.property_id = %s",
        here.property_id,
    )
    booked = one(
        "SELECT -sum(amount) FROM transfer WHERE property_id = %s AND component = %s AND kind = %s",
        here.property_id, int(Component.ENERGY), int(TransferKind.USAGE),
    )  # fmt: skip
    assert charged == booked > 0
    assert one("SELECT count(*) FROM posting WHERE cause = 'other'") == 1


def test_a_reading_after_the_day_leaves_what_was_read_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = place()
    account = here.accounts["1001"]
    send(here, [("M-101", at(23), 1_777), ("M-101", at(25), 2_777)])
    real, read = posting.lock_numbers, posting.read_unposted
    asked: list[list[int]] = []

    def lock(account_ids: Any) -> Any:
        send(here, [("M-101", at(26), 3_777)])
        return real(account_ids)

    def counted(account_ids: Any, until: Any) -> Any:
        asked.append(list(account_ids))
        return read(account_ids, until)

    monkeypatch.setattr(posting, "lock_numbers", lock)
    monkeypatch.setattr(posting, "read_unposted", counted)
    post_usage(actor=CLERK, now=NOW, until=at(24), cause="posting.daily", account_ids=[account])
    assert asked == [[account], []]
    assert one("SELECT max(to_at) FROM interval i JOIN posting p USING (account_id) "
               "WHERE account_id = %s AND interval_no <= interval_no_to", account) <= at(24)  # fmt: skip


def test_accounts_read_in_parts_and_of_several_places_are_posted_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places = [place(), place()]
    for each in places:
        send(each, [("M-101", at(hour), 3_000 + 50 * hour) for hour in range(1, 20)])
        send(each, [("M-102", at(hour), 5_000 + 70 * hour) for hour in range(1, 20)])
    with connection.cursor() as cursor:
        # A day of its own for each place: with a reading each hour some are yesterday's there.
        cursor.execute(
            "UPDATE property SET time_zone = 'Asia/Tokyo' WHERE id = %s", [places[1].property_id]
        )
    monkeypatch.setattr(unposted, "_READ_MAX", 1)
    accounts = [account for each in places for account in each.accounts.values()]
    post_usage(actor=CLERK, now=NOW, until=NOW, cause="posting.daily", account_ids=accounts)
    wrong = rows(
        """SELECT account_id, day FROM (
               SELECT i.account_id, (i.from_at AT TIME ZONE p.time_zone)::date AS day,
                      sum(charge_energy) AS charged
               FROM interval i JOIN property p ON p.id = i.property_id GROUP BY 1, 2) u
           FULL JOIN (
               SELECT t.account_id, (t.service_from AT TIME ZONE p.time_zone)::date AS day,
                      -sum(amount) AS booked
               FROM transfer t JOIN property p ON p.id = t.property_id
               WHERE component = %s AND kind = %s GROUP BY 1, 2) b USING (account_id, day)
           WHERE charged IS DISTINCT FROM booked""",
        int(Component.ENERGY), int(TransferKind.USAGE),
    )  # fmt: skip
    assert wrong == []


def test_what_is_spent_a_day_looks_at_the_latest_transfers_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = place()
    account = here.accounts["1001"]
    spent = "SELECT spend_per_day FROM account_state WHERE account_id = %s"
    monkeypatch.setattr(posting, "SPEND_TRANSFERS", 1)
    send(here, [("M-101", at(8), 3_000)])
    post_usage(actor=CLERK, now=NOW, until=at(24), cause="posting.daily", account_ids=[account])
    assert one(spent, account) > 0
    send(here, [("M-101", at(25), 3_100)])
    post_usage(actor=CLERK, now=NOW, until=at(48), cause="posting.daily", account_ids=[account])
    assert one(spent, account) == one(
        "SELECT -amount FROM transfer WHERE account_id = %s ORDER BY seq DESC LIMIT 1", account
    )


def test_a_new_price_holds_from_its_instant_and_a_running_book_follows_it() -> None:
    here = place()
    account, book = here.accounts["1001"], TariffBook()
    send(here, [("M-101", at(12), 2_000)], book=book)
    dearer = {**TARIFF, "energy": {"unit": "kWh", "bands": {"all": {"price": "1"}}}}
    create_tariff_version(
        actor=CLERK, property_id=here.property_id, code="flat", name="Flat", document=dearer,
        valid_from=at(13), approved_by="user:2", now=NOW,
    )  # fmt: skip
    send(here, [("M-101", at(14), 4_000)], book=book)
    prices = rows(
        "SELECT from_at, price_nano, energy_wh FROM interval WHERE account_id = %s "
        "AND start_at = %s ORDER BY from_at",
        account, at(12),
    )  # fmt: skip
    assert [(each[0], each[2]) for each in prices] == [(at(12), 1_000), (at(13), 1_000)]
    assert prices[1][1] == 1_000_000_000 != prices[0][1]


def test_a_tariff_needs_another_person_and_sense() -> None:
    here = place()

    def create(document: dict[str, object], approved_by: str) -> int:
        return create_tariff_version(
            actor=CLERK, property_id=here.property_id, code="new", name="New", document=document,
            valid_from=NOW, approved_by=approved_by, now=NOW,
        )  # fmt: skip

    with pytest.raises(SelfApproval):
        create(TARIFF, CLERK.code)
    with pytest.raises(TariffRefused):
        create({**TARIFF, "energy": {"unit": "kWh", "bands": {}}}, "user:2")
    assert one("SELECT count(*) FROM tariff WHERE code = 'new'") == 0
    assert create(TARIFF, "user:2") > 0


def test_the_database_itself_refuses_overlapping_ranges_and_impossible_rows() -> None:
    here = place()
    account = here.accounts["1001"]
    send(here, [("M-101", at(6), 1_777)])
    post(here)
    for statement in (
        """INSERT INTO posting SELECT account_id, posting_no + 1, property_id, event_id,
               interval_no_from, interval_no_to, interval_hash, energy_wh, amount, cause, posted_at
           FROM posting WHERE account_id = %s""",
        "UPDATE account_state SET posted_interval_no = interval_no + 1 WHERE account_id = %s",
        "UPDATE account_state SET carry_energy = 1000000 WHERE account_id = %s",
        "UPDATE meter_state SET last_at = opened_at - interval '1 s' WHERE account_id = %s",
        "INSERT INTO interval SELECT * FROM interval WHERE account_id = %s",
        "UPDATE interval SET energy_wh = -1 WHERE account_id = %s",
    ):
        with pytest.raises(DatabaseError), transaction.atomic():
            rows(statement, account)


def test_a_day_in_grace_is_left_for_later() -> None:
    from prewatt.billing.tasks import GRACE, post_finished_days

    here = place()
    send(here, [("M-101", at(20), 2_000), ("M-101", at(30), 3_000)])
    midnight = at(24)
    assert post_finished_days(now=midnight + GRACE - timedelta(seconds=1)) == 0
    assert post_finished_days(now=midnight + GRACE) == 1
    assert post_finished_days(now=midnight + GRACE) == 0


def test_a_correction_of_posted_usage_names_the_transfer_that_it_corrects() -> None:
    here = place(document=LADDER)
    account = here.accounts["1001"]
    send(here, [("M-101", at(1), 1_100), ("M-101", at(20), 21_000)])
    post(here)
    before = one("SELECT available FROM account_state WHERE account_id = %s", account)
    # Most of it was used by night, and what is left by day reaches no other step.
    send(here, [("M-101", at(5), 16_000)])
    corrected = one("SELECT available FROM account_state WHERE account_id = %s", account) - before
    post(here)
    legs = rows(
        """SELECT t.component, t.code, t.band, t.step, t.amount, c.kind, c.component, c.code,
                  c.event_id = t.corrects_event_id
           FROM transfer t JOIN transfer c ON c.account_id = t.account_id AND c.seq = t.corrects_seq
           WHERE t.account_id = %s AND t.kind = %s""",
        account, int(TransferKind.CORRECTION),
    )  # fmt: skip
    assert sum(leg[4] for leg in legs) == corrected != 0
    assert {leg[0] for leg in legs} >= {Component.ENERGY, Component.TAX, Component.FEE}
    for component, code, _, _, _, kind, its_component, its_code, is_its_event in legs:
        assert (kind, is_its_event) == (int(TransferKind.USAGE), True)
        assert (component, code) == (its_component, its_code)
    usage = one(
        "SELECT count(*) FROM transfer WHERE account_id = %s AND kind = %s AND booked_at = %s",
        account, int(TransferKind.USAGE), NOW,
    )  # fmt: skip
    assert usage == one(
        """SELECT count(*) FROM transfer t JOIN posting p USING (account_id, event_id)
           WHERE account_id = %s AND posting_no = 1 AND kind = %s""",
        account, int(TransferKind.USAGE),
    ), "the second posting has corrections alone"  # fmt: skip


def test_what_is_corrected_before_it_is_posted_is_plain_usage() -> None:
    here = place(document=LADDER)
    account = here.accounts["1001"]
    send(here, [("M-101", at(1), 1_100), ("M-101", at(20), 21_000)])
    send(here, [("M-101", at(5), 16_000)])
    post(here)
    assert one(
        "SELECT count(*) FROM transfer WHERE account_id = %s AND kind = %s",
        account, int(TransferKind.CORRECTION),
    ) == 0  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    total=st.integers(-(10**9), 10**9),
    numerators=st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=5),
    denominator=st.one_of(st.integers(1, 8), st.just(10**6)),
)
def test_a_divided_amount_sums_to_its_total_and_the_largest_takes_the_rest(
    total: int, numerators: list[int], denominator: int
) -> None:
    parts = divide(total, numerators, denominator)
    assert sum(parts) == total
    largest = max(range(len(parts)), key=lambda at: abs(numerators[at]))
    for at_, part in enumerate(parts):
        assert at_ == largest or part == round(Fraction(numerators[at_], denominator))
