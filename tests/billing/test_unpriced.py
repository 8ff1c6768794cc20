"""Accounts without a tariff: held, alerted, in nobody's way, and rated once they have a price."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from tests.invariants.places import NOW, World, at, one, place, post, rows, send

from prewatt.access.scope import system_actor
from prewatt.billing.operations import advance_epoch
from prewatt.billing.rerate_requests import request_rerating
from prewatt.billing.rerating import rerate
from prewatt.billing.tariffs import TariffBook
from prewatt.billing.tasks import post_finished_days, rate_anew, rate_held_readings
from prewatt.core.vee import Verdict
from prewatt.reports.books import check_books

pytestmark = pytest.mark.usefixtures("database")


def take_tariff(here: World) -> list[tuple[Any, ...]]:
    """Take account 1001's tariff away; what brings it back."""
    taken = rows(
        """DELETE FROM tariff_assignment WHERE account_id = %s
           RETURNING property_id, account_id, tariff_id, valid_from""",
        here.accounts["1001"],
    )
    advance_epoch(here.property_id)
    return taken


def give_tariff(here: World, taken: list[tuple[Any, ...]]) -> None:
    for row in taken:
        rows(
            """INSERT INTO tariff_assignment (property_id, account_id, tariff_id, valid_from)
               VALUES (%s, %s, %s, %s)""",
            *row,
        )
    advance_epoch(here.property_id)


def alerts(here: World) -> list[tuple[Any, ...]]:
    return rows(
        """SELECT subject, closed_at IS NULL FROM alert
           WHERE property_id = %s AND code = 'billing.no_tariff' ORDER BY id""",
        here.property_id,
    )


def books_hold(here: World) -> None:
    with connection.cursor() as cursor:
        assert check_books(cursor, [here.property_id]) == []


def test_its_readings_are_held_and_those_of_others_are_rated() -> None:
    here, book = place(), TariffBook()
    send(here, [("M-101", at(1), 1_500)], book=book)
    taken = take_tariff(here)
    verdicts = send(
        here,
        [("M-101", at(2), 2_000), ("M-LIFT", at(2), 9_000), ("M-101", at(3), 2_600)],
        book=book,
    )
    assert verdicts == [Verdict.UNPRICED, Verdict.ACCEPTED, Verdict.UNPRICED]
    assert (
        one("SELECT last_value_wh FROM meter_state WHERE meter_id = %s", here.meters["M-101"])
        == 1_500
    )
    assert rows(
        "SELECT value_wh, reason, state FROM vee_case WHERE account_id = %s ORDER BY read_at",
        here.accounts["1001"],
    ) == [(2_000, "mdm.vee.unpriced", "held"), (2_600, "mdm.vee.unpriced", "held")]
    subject = f"account:{here.accounts['1001']}"
    assert alerts(here) == [(subject, True)]
    assert rate_held_readings(now=NOW) == 0, "there is no price yet"
    send(here, [("M-101", at(2), 2_000)], book=book)
    assert one("SELECT count(*) FROM vee_case WHERE account_id = %s", here.accounts["1001"]) == 2

    give_tariff(here, taken)
    # A reading gets there before the chore: what was held divides it and charges nothing twice.
    send(here, [("M-101", at(4), 3_000)], book=book)
    assert rate_held_readings(now=NOW) == 2
    assert rate_held_readings(now=NOW) == 0
    assert one(
        "SELECT sum(energy_wh)::bigint FROM interval WHERE account_id = %s", here.accounts["1001"]
    ) == 2_000  # fmt: skip
    assert rows(
        "SELECT DISTINCT state, closed_by FROM vee_case WHERE account_id = %s",
        here.accounts["1001"],
    ) == [("released", "system:readings")]
    assert alerts(here) == [(subject, False)]
    post(here)
    books_hold(here)


def test_held_readings_alone_charge_what_they_would_have_charged() -> None:
    here, plain = place(), place()
    taken = take_tariff(here)
    for hour, value in ((5, 2_000), (11, 4_321), (29, 5_000)):
        send(here, [("M-101", at(hour), value)])
        send(plain, [("M-101", at(hour), value)])
    give_tariff(here, taken)
    assert rate_held_readings(now=NOW) == 3
    charged = [
        rows(
            """SELECT from_at, energy_wh, band, charge_energy FROM interval
               WHERE account_id = %s ORDER BY from_at""",
            each.accounts["1001"],
        )
        for each in (here, plain)
    ]
    assert charged[0] == charged[1]
    assert one(
        "SELECT available FROM account_state WHERE account_id = %s", here.accounts["1001"]
    ) == (one("SELECT available FROM account_state WHERE account_id = %s", plain.accounts["1001"]))


def test_rating_anew_leaves_it_out_and_goes_on_with_the_others() -> None:
    here = place()
    send(here, [("M-101", at(6), 1_777), ("M-LIFT", at(6), 5_000)])
    post(here)
    taken = take_tariff(here)
    # Of the lift's charge something is wrong, which rating anew has to find.
    lift = one("SELECT account_id FROM meter_state WHERE meter_id = %s", here.meters["M-LIFT"])
    both = [here.accounts["1001"], lift]
    request_rerating(from_at=dict.fromkeys(both, at(0)), reason="terms", now=NOW)
    rate_anew(now=NOW)
    open_requests = (
        "SELECT account_id FROM rerate_request WHERE done_at IS NULL AND property_id = %s"
    )
    assert rows(open_requests, here.property_id) == [(here.accounts["1001"],)], "it waits"
    assert alerts(here) == [(f"account:{here.accounts['1001']}", True)]
    assert rerate(
        actor=system_actor("rerating"), account_ids=both, from_at=at(0), reason="terms", now=NOW
    ) == []  # fmt: skip
    give_tariff(here, taken)
    rate_anew(now=NOW)
    assert rows(open_requests, here.property_id) == []
    books_hold(here)


def test_posting_goes_on_beside_an_account_whose_tariff_has_no_version() -> None:
    here = place(document=_by_days())
    send(here, [("M-101", at(6), 1_777), ("M-LIFT", at(6), 5_000)])
    # Its only assignment ended before any version of that tariff began: nothing priced it ever.
    rows(
        "UPDATE tariff_version SET valid_from = %s WHERE property_id = %s",
        NOW + timedelta(days=900), here.property_id,
    )  # fmt: skip
    rows(
        """INSERT INTO tariff (property_id, code, name) VALUES (%s, 'empty', 'Empty')""",
        here.property_id,
    )
    rows(
        """INSERT INTO tariff_assignment (property_id, account_id, tariff_id, valid_from)
           SELECT property_id, %s, id, %s FROM tariff WHERE property_id = %s AND code = 'empty'""",
        here.accounts["1001"], at(0), here.property_id,
    )  # fmt: skip
    advance_epoch(here.property_id)
    post_finished_days(now=NOW)
    lift = one("SELECT account_id FROM meter_state WHERE meter_id = %s", here.meters["M-LIFT"])
    posted = "SELECT count(*) FROM transfer WHERE account_id = %s AND kind IN (3, 10)"
    assert one(posted, lift) > 0


def _by_days() -> dict[str, Any]:
    return {
        "format": "prewatt-tariff/1",
        "name": "By days",
        "currency": "EUR",
        "energy": {"unit": "kWh", "bands": {"all": {"price": "0.2876543"}}},
        "standing": {"per_day": "0.35"},
    }
