"""The demo's property comes in by the import, as everybody's does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from prewatt.access.models import User
from prewatt.access.scope import actor_for
from prewatt.core.money import MICRO
from prewatt.estate.operations import NewCustomer
from prewatt.moves.lets import rehearse_let
from prewatt.moves.words import FirstRecharge, NewTenant
from prewatt.reports.lets import let_form
from prewatt.sim.onboarding import EMERGENCY_MICRO, make_property

NOW = datetime(2026, 11, 17, 9, 12, tzinfo=UTC)


@pytest.mark.usefixtures("database")
def test_every_tenant_has_emergency_credit_and_no_owner_has() -> None:
    make_property(units=40, days=2, now=NOW, sign_ins=[])
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT a.kind, coalesce(s.emergency_micro, 0), count(*)
               FROM account a LEFT JOIN supply_state s ON s.account_id = a.id
               GROUP BY 1, 2 ORDER BY 1"""
        )
        granted = cursor.fetchall()
    assert [each[:2] for each in granted] == [("customer", EMERGENCY_MICRO), ("vacancy", 0)]
    assert granted[0][2] > 20
    assert EMERGENCY_MICRO == 5_000_000


@pytest.mark.usefixtures("database")
def test_a_booth_and_a_season_can_be_let_from_the_first_minute() -> None:
    facts = make_property(
        units=240,
        days=2,
        now=NOW,
        sign_ins=[("ines@fernmoor.example", "Ines", "administrator", "quiet-window-42")],
    )
    ines = actor_for(User.objects.get(), property_id=facts["property_id"])
    form = let_form(actor=ines, now=NOW)
    booths = [each for each in form.units if each.kind == "booth"]
    assert len(booths) >= 3 and form.units[0] in booths, "booths stand first"
    plans = {each.code: each for each in form.plans}
    assert set(plans) == {"BOOTH-DAY", "SEASON"}
    customer = NewCustomer("Wren Alder", "wren@alder.example", "", "en")
    for booth, code, until, paid, units in (
        (booths[0], "BOOTH-DAY", NOW + timedelta(days=2), 165, 3),
        (booths[1], "SEASON", None, 270, None),
    ):
        # At the very registers that the meters reported last, as the form takes them.
        let = rehearse_let(
            actor=ines, unit_id=booth.unit_id, tenant=NewTenant(customer, code), opening=None,
            until=until, payment=FirstRecharge(paid * MICRO, "cash"), key=code, now=NOW,
        )  # fmt: skip
        assert let.available_micro == 20 * MICRO
        assert let.deposit_micro == plans[code].deposit_micro
        assert units is None or let.units == units
