"""The money path under the logins it really runs under, row-level security and all."""

from __future__ import annotations

import pytest
from django.db import ProgrammingError
from tests.conftest import role_dsn
from tests.estate.tables import NOW
from tests.invariants.places import at, pay, place, post, rows, send, signed_in

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused
from prewatt.billing.operations import post_usage
from prewatt.core.vee import Verdict
from prewatt.reports.books import check_books
from prewatt.vending.operations import Recharged, RechargeRefused


def test_each_process_does_its_part_and_no_more(database: str) -> None:
    here, there = place(), place()
    account = here.accounts["1001"]
    with signed_in(role_dsn(database, "head_end"), database):
        assert send(here, [("M-101", at(1), 2_000)]) == [Verdict.ACCEPTED]
        assert send(here, [("M-101", at(0.5), 1_400)]) == [Verdict.BACKFILL]
        with pytest.raises(ProgrammingError, match="permission denied"):
            post(here)
    with signed_in(role_dsn(database, "clerk"), database):
        post(here)
    with signed_in(role_dsn(database, "web"), database):
        assert isinstance(pay(here, "mine"), Recharged)
        foreign = pay(here, "theirs", account=there.accounts["1001"])
        assert isinstance(foreign, RechargeRefused)
        assert foreign.code == "vending.recharge.unknown_account"
        with pytest.raises(ProgrammingError, match="permission denied"):
            rows("SELECT * FROM transfer WHERE account_id = %s", account)
    with signed_in(role_dsn(database, "witness"), database):
        from django.db import connection

        with connection.cursor() as cursor:
            assert check_books(cursor, [here.property_id, there.property_id]) == []
        assert rows("SELECT count(*) FROM transfer WHERE account_id = %s", account)[0][0] >= 3


@pytest.mark.parametrize("duty", [Duty.OPERATOR, Duty.AUDITOR])
def test_people_do_not_post_usage(duty: Duty) -> None:
    with pytest.raises(PermissionRefused):
        post_usage(actor=Actor("user:1", duty, (1,)), now=NOW, until=NOW, cause="posting.daily")
