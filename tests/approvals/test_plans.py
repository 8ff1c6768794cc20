"""Another plan ahead, for one or many, and a wrong one put right: by operations, and straight at the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from django.db import ProgrammingError
from tests.access.test_walls import duty, refused
from tests.approvals.test_two_people import NOW, Office, said, state
from tests.conftest import role_dsn
from tests.invariants.places import TARIFF, World, one, rows, send

from prewatt.access.models import Duty
from prewatt.access.scope import scope, system_actor
from prewatt.approvals.kinds import Changed, saying_what_changed
from prewatt.approvals.operations import Wanted, needed_for, rehearse, wanted_change
from prewatt.billing.operations import create_tariff_version
from prewatt.billing.plans import wanted_correction, wanted_plans, wanted_withdrawal
from prewatt.billing.queries import plans_at

pytestmark = pytest.mark.usefixtures("database")
MIDNIGHT = datetime(2026, 11, 30, 23, tzinfo=UTC)


class Plans(Office):
    """With a second plan in force, four times as dear."""

    def __init__(self) -> None:
        super().__init__()
        create_tariff_version(
            actor=system_actor("billing"), property_id=self.property_id, code="dear", name="Dear",
            document=TARIFF | {"energy": {"unit": "kWh", "bands": {"all": {"price": "0.99"}}}},
            valid_from=datetime(2026, 1, 1, tzinfo=UTC), approved_by="user:2", now=NOW,
        )  # fmt: skip
        self.accounts = sorted(self.world.accounts.values())

    def ahead(self, accounts: Sequence[int], code: str = "dear") -> Wanted:
        return wanted_plans(
            actor=self.actor("ines"), property_id=self.property_id, account_ids=accounts,
            tariff_code=code, valid_from=MIDNIGHT, now=self.now,
        )  # fmt: skip

    def on(self, at: datetime = MIDNIGHT) -> list[str]:
        found = plans_at(self.accounts, at)
        return [found[each].code for each in self.accounts]

    def limits(self, kind: str, *rungs: tuple[int, int]) -> None:
        """The property's own, as what others agreed to before."""
        for above, approvers in rungs:
            rows(
                "INSERT INTO amount_limit (property_id, kind, above, approvers) "
                "VALUES (%s, %s, %s, %s) RETURNING 1",
                self.property_id, kind, above, approvers,
            )  # fmt: skip


@pytest.fixture
def office(database: str) -> Plans:
    return Plans()


def test_few_accounts_come_to_a_plan_alone_and_more_by_two_people(office: Plans) -> None:
    first, *_rest = office.accounts
    was = office.on()
    office.limits("billing.plans", (0, 0), (2, 1))
    alone = office.ask("ines", office.ahead([first]))
    assert state(alone) == "alone" and office.on()[0] == "dear"
    gone = wanted_withdrawal(
        actor=office.actor("ines"), property_id=office.property_id, account_id=first,
        valid_from=MIDNIGHT, now=office.now,
    )  # fmt: skip
    assert state(office.ask("ines", gone)) == "alone" and office.on() == was
    assert one("SELECT count(*) FROM audit_event WHERE code = 'billing.tariff.withdrawn'") == 1
    # What one person did within a day counts together: the third account takes a colleague.
    everybody = office.ahead(office.accounts)
    assert needed_for(actor=office.actor("ines"), wanted=office.ahead([first])) == 1
    proposal_id = office.ask("ines", everybody)
    assert state(proposal_id) == "open" and office.on() == was, "nothing is done yet"
    with said("own"):
        office.approve(proposal_id, "ines")
    assert office.approve(proposal_id) == 0
    assert set(office.on()) == {"dear"} and everybody.effect["amount"] == len(office.accounts)
    changed = rows(
        "SELECT actor, detail->>'approved_by' FROM audit_event WHERE code = 'billing.tariff.changed'"
    )
    assert changed.count((office.actor("ines").code, office.actor("jonas").code)) == len(was)


def test_who_came_to_another_plan_in_the_meantime_makes_it_void(office: Plans) -> None:
    office.limits("billing.plans", (0, 1))
    waits = office.ask("ines", office.ahead(office.accounts))
    office.approve(office.ask("ines", office.ahead(office.accounts[:1])))
    with said("void:plan"):
        office.approve(waits)
    assert state(waits) == "void" and office.on().count("dear") == 1


def used(here: World, hours: int, count: int) -> None:
    send(here, [("M-101", NOW - timedelta(hours=hours), count)])


def available(account_id: int) -> int:
    return int(one("SELECT available FROM account_state WHERE account_id = %s", account_id))


def test_a_wrong_plan_is_put_right_by_two_people_and_void_where_it_moves_more(
    office: Plans,
) -> None:
    here = office.world
    account_id, since = here.accounts["1001"], NOW - timedelta(days=5)
    used(here, 100, 5_000)

    def wanted() -> Wanted:
        return wanted_correction(
            actor=office.actor("ines"), property_id=office.property_id, account_id=account_id,
            tariff_code="dear", from_at=since, now=office.now,
        )[0]  # fmt: skip

    right = wanted()
    office.limits("billing.correction", (0, 1), (right.amount + 1_000_000, 2))
    assert right.amount > 0 and needed_for(actor=office.actor("ines"), wanted=right) == 1
    waits = office.ask("ines", right)
    used(here, 50, 60_000)
    before = available(account_id)
    with said("void:amount"):
        office.approve(waits)
    assert available(account_id) == before and office.on(NOW)[0] != "dear"
    right = wanted()
    again = office.ask("ines", right)
    office.users["kara"] = office._hire("kara", Duty.ADMINISTRATOR)
    assert office.approve(again) == 1 and office.approve(again, "kara") == 0
    assert available(account_id) == before - right.amount
    assert plans_at([account_id], NOW)[account_id].code == "dear"
    with said("ended"):
        office.approve(again)


def test_no_duty_writes_a_plan_and_none_says_less_than_it_does(
    office: Plans, database: str
) -> None:
    first, second = office.accounts[:2]
    plan = office.ahead([first]).effect["plan"]
    with psycopg.connect(role_dsn(database, "web"), autocommit=True) as session:
        for role in ("app_admin", "app_operator"):
            duty(session, role, office.property_id)
            for call in (
                "INSERT INTO tariff_assignment SELECT * FROM tariff_assignment",
                *(
                    f"SELECT put_on_plan({kind}, {office.property_id}, 'account:{first}', "
                    f"ARRAY[{first}::bigint], {plan}, '{MIDNIGHT}', false)"
                    for kind in ("NULL", "'billing.plans'", "'billing.correction'")
                ),
            ):
                assert refused(session, call), (role, call)
    # Two accounts said to be none; an agreement about one used for another; what was charged, as if ahead.
    both = office.ahead([first, second])
    lie = wanted_change(
        kind=both.kind, property_id=both.property_id, subject=both.subject,
        effect={**both.effect, "amount": 0},
    )  # fmt: skip
    with pytest.raises(ProgrammingError, match="another plan was agreed to"):
        office.ask("ines", lie)
    one("UPDATE account_state SET last_interval_at = %s WHERE account_id = %s RETURNING 1",
        MIDNIGHT + timedelta(hours=1), first)  # fmt: skip
    with scope(office.actor("ines")), pytest.raises(Changed, match="begun"):  # noqa: PT012 - what is rehearsed ends with the transaction
        rehearse(office.ahead([first]))
        with saying_what_changed():
            rows("SELECT put_on_plan('billing.plans', %s, %s, %s, %s, %s, false)",
                 office.property_id, f"account:{first}", [first], plan, MIDNIGHT)  # fmt: skip
