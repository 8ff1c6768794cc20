"""Debts, refunds, lets and recharges taken back by the pages: seen before, done once, by whom it may be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from fernmoor import NOW, Fernmoor
from prewatt.access.models import Duty, DutyGrant, User
from prewatt.access.scope import Actor, system_actor
from prewatt.debts.models import Debt, DebtPolicy
from prewatt.debts.operations import open_debt, set_policy
from prewatt.debts.words import Policy
from prewatt.web.ui.format import money
from web.test_approvals import at, code_of, take_up

STALL: dict[str, Any] = {
    "format": "prewatt-tariff/1",
    "name": "Stall by the day",
    "currency": "EUR",
    "energy": {"unit": "kWh", "bands": {"all": {"price": "0.25"}}},
    "temporary": {"unit": "day", "fee": "10.00", "deposit": "50.00"},
}
Client = Any
__all__ = ["at"]
SignIn = Callable[..., Client]
Owner = Callable[[Fernmoor], Any]


@pytest.fixture
def place(fernmoor: Fernmoor, as_owner: Owner) -> Fernmoor:
    """Fernmoor with two accounts whose figures agree, a plan for stalls and a refund due."""
    with as_owner(fernmoor):
        for name in ("N-305", "N-202"):
            fernmoor.settle(name)
        _run(
            """WITH t AS (INSERT INTO tariff (property_id, code, name)
                   VALUES (%(property)s, 'STALL', 'Stall by the day') RETURNING id)
               INSERT INTO tariff_version (property_id, tariff_id, number, valid_from, content, digest,
                   made_by, approved_by, approved_at)
               SELECT %(property)s, id, 1, %(since)s, %(content)s, '\\x00', 'user:1', 'user:2', %(since)s
               FROM t""",
            {
                "property": fernmoor.property_id,
                "since": NOW - timedelta(days=300),
                "content": json.dumps(STALL),
            },
        )
        _run(
            """INSERT INTO refund (property_id, account_id, event_id, number, amount_micro, reason,
                   state, made_by, made_at, paid_way, paid_reference, paid_by)
               VALUES (%(property)s, %(account)s, 7001, 12, 67000000, 'let.ended', 'due',
                   'system:lets', %(now)s, '', '', '')""",
            {"property": fernmoor.property_id, "account": fernmoor.accounts["N-101"], "now": NOW},
        )
        _off(fernmoor, -67_000_000, counter=14)
    return fernmoor


def _off(place: Fernmoor, micro: int, *, counter: int) -> None:
    """A transfer of the refund's event."""
    _run(
        """INSERT INTO transfer (account_id, seq, property_id, legal_entity_id, event_id, kind,
               component, counter_account, amount, posted_after, currency, service_from,
               service_to, booked_at, actor, reason)
           SELECT account_id, seq + 1, property_id, legal_entity_id, 7001, 4, component, %(counter)s,
                  %(amount)s, posted_after + %(amount)s, currency, service_from, service_to,
                  booked_at, actor, 'let.ended'
           FROM transfer WHERE account_id = %(account)s ORDER BY seq DESC LIMIT 1""",
        {"amount": micro, "account": place.accounts["N-101"], "counter": counter},
    )


def _run(statement: str, params: dict[str, Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)


def _one(place: Fernmoor, as_owner: Owner, statement: str) -> Any:
    with as_owner(place), connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def _text(response: Any) -> str:
    """The words of a page without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def _key(response: Any) -> str:
    found = re.search(r'name="key" value="([^"]+)"', response.content.decode())
    assert found is not None
    return found[1]


def _debt(place: Fernmoor, name: str = "N-305", euro: int = 30) -> int:
    return open_debt(
        actor=Actor("user:5", Duty.ADMINISTRATOR, (place.property_id,)),
        account_id=place.accounts[name], amount_micro=euro * 1_000_000,
        reason=Debt.Reason.AGREED, note="Old heating bill", share_ppm=250_000, weekly_cap_micro=0,
        key=f"debt-{name}", now=NOW,
    ).debt_id  # fmt: skip


PAGES = (
    "/debts", "/refunds", "/lets", "/lets/new", "/debts/{debt}", "/refunds/{refund}",
    "/accounts/{account}/debts/new", "/recharges/400/take-back", "/accounts/{account}/terms",
    "/accounts/{account}/correct-tariff", "/tariffs/announced", "/tariffs/rules",
)  # fmt: skip
#: Pages of deeds that only administrators do.
FOR_ADMINISTRATORS = {
    "/lets/new", "/accounts/{account}/debts/new", "/recharges/400/take-back",
    "/accounts/{account}/correct-tariff",
}  # fmt: skip


@pytest.mark.parametrize("duty", ["operator", "administrator", "auditor"])
def test_each_duty_opens_what_it_may_and_no_more(
    place: Fernmoor, sign_in: SignIn, as_owner: Owner, duty: str
) -> None:
    ids = {
        "debt": _debt(place),
        "refund": _one(place, as_owner, "SELECT id FROM refund"),
        "account": place.accounts["N-305"],
    }
    client = sign_in(place, duty)
    for page in PAGES:
        status = client.get(page.format(**ids)).status_code
        closed = page in FOR_ADMINISTRATORS and duty != "administrator"
        assert status == (403 if closed else 200), page


DEEDS = (
    ("/debts/{debt}", {"deed": "agree", "share": "10"}, ()),
    ("/debts/{debt}", {"deed": "write_off", "why": "w", "do": "confirm", "key": "k1"}, ()),
    ("/debts/{debt}", {"deed": "settle", "amount": "1", "do": "confirm", "key": "k2"}, ()),
    ("/accounts/{account}/debts/new",
     {"reason": "agreed", "amount": "5", "share": "25", "do": "confirm", "key": "k3"}, ()),
    ("/recharges/400/take-back", {"how": "reversed", "why": "w", "do": "confirm", "key": "k4"}, ()),
    ("/refunds/{refund}", {"way": "cash", "do": "confirm"}, ("operator",)),
    ("/accounts/{account}/terms", {"deed": "terms", "from": "2026-11-17", "members": "2"}, ()),
    ("/accounts/{account}/plan", {"deed": "plan", "plan": "R", "plan_from": "2026-12-01"}, ()),
    ("/accounts/{account}/correct-tariff", {"plan": "R", "from": "2026-11-10", "reason": "w"}, ()),
    ("/tariffs/announced", {"deed": "peak"}, ()),
    ("/tariffs/rules", {"deed": "policy", "reversed_payment": "loss", "moved_credit": "loss",
                        "share": "10"}, ()),
    ("/tariffs/rules", {"deed": "resale", "rules": "GB", "from": "2026-11-17"}, ()),
)  # fmt: skip


@pytest.mark.parametrize("duty", ["operator", "auditor"])
def test_no_duty_does_what_is_an_administrators(
    place: Fernmoor, sign_in: SignIn, as_owner: Owner, duty: str
) -> None:
    ids = {
        "debt": _debt(place),
        "refund": _one(place, as_owner, "SELECT id FROM refund"),
        "account": place.accounts["N-305"],
    }
    client = sign_in(place, duty)
    # That they were refused stands there, and nothing else.
    deeds = "SELECT count(*) FROM audit_event WHERE code <> 'access.refused'"
    before = _one(place, as_owner, deeds)
    for page, form, also in DEEDS:
        if duty not in also:
            assert client.post(page.format(**ids), form).status_code == 403, (page, form)
    assert _one(place, as_owner, deeds) == before


def test_an_operator_sees_no_button_they_may_not_use(place: Fernmoor, sign_in: SignIn) -> None:
    debt, account = _debt(place), place.accounts["N-305"]
    operator, administrator = sign_in(place, "operator"), sign_in(place)
    for page, button in (
        (f"/debts/{debt}", "Write off"),
        (f"/accounts/{account}", "New debt"),
        ("/recharges/400", "Take it back"),
        ("/lets", "New let"),
        (f"/accounts/{account}/terms", "Look at what they would cost"),
        (f"/accounts/{account}/terms", "Put a wrong plan right"),
        ("/tariffs/rules", "Write down these rules"),
        ("/tariffs/rules", "Look at what changes"),
    ):
        assert button in _text(administrator.get(page)), page
        assert button not in _text(operator.get(page)), page


def test_nothing_of_another_property_is_seen_or_done(
    place: Fernmoor, sign_in: SignIn, as_owner: Owner
) -> None:
    debt, account = _debt(place), place.accounts["N-305"]
    refund = _one(place, as_owner, "SELECT id FROM refund")
    with as_owner(place):
        other = place.another("Elsewhere")
        user = User.objects.create(email="far@elsewhere.example", name="Far", language="en")
        DutyGrant.objects.create(user=user, property_id=other, duty="administrator", granted_at=NOW)
        place.users["far"] = user.pk
    client = sign_in(place, "far")
    for page in (
        f"/debts/{debt}", f"/refunds/{refund}", f"/accounts/{account}/terms",
        f"/accounts/{account}/debts/new", f"/accounts/{account}/correct-tariff",
        "/recharges/400/take-back", "/lets/1", "/tariffs/announced/1/withdraw",
    ):  # fmt: skip
        assert client.get(page).status_code == 404, page
        assert client.post(page, {"do": "confirm"}).status_code == 404, page
    for page in ("/debts?show=all", "/refunds?show=all", "/lets?show=all"):
        assert "Fenwick" not in _text(client.get(page))


def test_a_debt_is_listed_agreed_on_and_paid_out_of_the_wallet_once(
    place: Fernmoor, sign_in: SignIn, at: list[Any]
) -> None:
    client, debt = sign_in(place), _debt(place, euro=3)
    listed = _text(client.get("/debts?q=305"))
    assert "D-1" in listed and "Agreed with the customer" in listed and "€3.00" in listed
    assert (
        client.get("/debts.csv").content.decode("utf-8-sig").splitlines()[1].startswith("D-1,N-305")
    )
    where = f"/debts/{debt}"
    refused = client.post(where, {"deed": "agree", "share": "140", "cap": "x"})
    assert refused.status_code == 422
    assert refused.content.decode().count('aria-invalid="true"') == 2
    client.post(where, {"deed": "agree", "share": "40", "cap": "5"})
    said = _text(client.get(where))
    assert "Of each recharge 40 % go to it, at most €5.00 in seven days." in said
    assert "Old heating bill" in said
    # More than is left is refused; a look takes nothing; the same key takes once.
    assert client.post(where, {"deed": "settle", "amount": "4"}).status_code == 422
    look = client.post(where, {"deed": "settle", "amount": "2", "do": "look"})
    assert "Take €2.00 out of the wallet of N-305, Orla Fenwick, for D-1?" in _text(look)
    assert "4410" in _text(look)
    form = {"deed": "settle", "amount": "2", "do": "confirm", "key": _key(look)}
    assert client.post(where, form).status_code == client.post(where, form).status_code == 302
    assert "Orla Fenwick owes €1.00 of D-1" in _text(client.get(where))
    look = client.post(where, {"deed": "write_off", "why": "moved away", "do": "look"})
    assert "Write off €1.00, what is left of D-1 of N-305, Orla Fenwick?" in _text(look)
    assert "you do this alone" in _text(look)
    pressed = {"deed": "write_off", "why": "moved away", "do": "confirm"}
    assert client.post(where, pressed | {"code": "123456"}).status_code == 422
    client.post(where, pressed | {"code": code_of(take_up(client, at), at)})
    assert "Written off" in _text(client.get(where))


def test_a_debt_written_down_says_what_the_tenant_reads(place: Fernmoor, sign_in: SignIn) -> None:
    client, account = sign_in(place), place.accounts["N-305"]
    where = f"/accounts/{account}/debts/new"
    form = {"reason": "agreed", "amount": "12.50", "note": "Key replaced", "share": "20", "cap": ""}
    look = client.post(where, form | {"do": "look"})
    assert "Debt D-…, €12.50: Agreed with the customer." in _text(look) and "Key replaced" in _text(
        look
    )
    assert "Nobody owes anything" in _text(client.get("/debts"))
    done = client.post(where, form | {"do": "confirm", "key": _key(look)})
    assert "D-1" in _text(client.get(done["Location"]))
    assert "D-1" in _text(client.get(f"/accounts/{account}"))


def test_credit_on_the_wrong_account_is_looked_at_moved_once_and_told(
    place: Fernmoor, sign_in: SignIn, as_owner: Owner, at: list[Any]
) -> None:
    client = sign_in(place)
    app = take_up(client, at)
    where = "/recharges/400/take-back"
    form = {"how": "moved", "to": "N-202", "why": "sold next door"}
    for to in ("N-305", "nowhere", ""):
        refused = client.post(where, form | {"to": to, "do": "look"})
        assert refused.status_code == 422 and 'id="f-to-why"' in refused.content.decode(), to
    count = "SELECT count(*) FROM transfer"
    before = _one(place, as_owner, count)
    look = client.post(where, form | {"do": "look"})
    said = _text(look)
    # 5.96 of the 20.00 are left: 5.00 of emergency credit are in use again, what was used beyond that
    # is a debt, and the right account has all of it. Nobody is cut before a warning of it has arrived.
    for each in (
        "−€20.00", "+€9.04", "D-1", "+€20.00", "N-202", "you do this alone",
        "Balance now €5.96 Balance afterwards −€5.00", "€5.00 of €5.00",
        "Used beyond that, becomes a debt D-1 €9.04", "Supply is not cut by this",
        "No warning delivered yet", "Both customers get a message",
    ):  # fmt: skip
        assert each in said, each
    assert _one(place, as_owner, count) == before, "a look leaves nothing"
    assert client.post(where, form | {"do": "confirm", "code": "123456"}).status_code == 422
    first = client.post(where, form | {"do": "confirm", "code": code_of(app, at)})
    assert first["Location"] == where + "?done=1"
    assert _one(place, as_owner, count) == before + 3
    told = _text(client.get(where))
    assert "was taken back" in told and "D-1 €9.04" in told and "N-202" in told
    other = client.post(where, form | {"do": "confirm", "code": code_of(app, at)})
    assert other.status_code == 422 and "taken back already" in _text(other)
    assert "This recharge was taken back" in _text(client.get("/recharges/400"))
    assert "What happened to the recharge" in _text(
        client.get(f"/accounts/{place.accounts['N-305']}")
    )


def test_credit_that_nobody_paid_is_proposed_looked_at_and_given_by_somebody_else(
    place: Fernmoor, sign_in: SignIn, as_owner: Owner, at: list[Any]
) -> None:
    with as_owner(place):
        place.users["second"] = place.another_user("second", "Pell Adair", "administrator")
    client, second = sign_in(place), sign_in(place, "second")
    apps = [take_up(each, at) for each in (client, second)]
    where = f"/accounts/{place.accounts['N-305']}/credit"
    assert where in client.get(f"/accounts/{place.accounts['N-305']}").content.decode()
    assert sign_in(place, "operator").get(where).status_code == 403
    form = {"way": "give", "amount": "12.50", "reason": "Lift was out for a week", "do": "look"}
    less = client.post(where, form | {"way": "take", "amount": "900"})
    assert less.status_code == 422 and "nothing is taken below zero" in _text(less)
    look = _text(client.post(where, form))
    assert "Balance Before: €5.96 After: €18.46" in look
    assert "1 other administrator has to agree first" in look
    made = client.post(where, form | {"do": "confirm", "code": code_of(apps[0], at)})
    proposal = made["Location"].removesuffix("?done=proposed")
    count = "SELECT count(*) FROM transfer WHERE reason = 'credit.by_hand'"
    assert _one(place, as_owner, count) == 0
    page = _text(second.get(proposal))
    for each in ("Give €12.50 to N-305, Orla Fenwick", "€18.46", "Lift was out for a week"):
        assert each in page, each
    approved = {"do": "approve", "code": code_of(apps[1], at)}
    assert second.post(proposal, approved)["Location"] == f"{proposal}?done=approve"
    assert _one(place, as_owner, count) == 1
    assert "+€12.50" in _text(second.get(proposal))
    assert "€18.46" in _text(client.get(f"/accounts/{place.accounts['N-305']}"))


def test_takings_say_what_was_received_what_went_back_what_was_paid_out_and_the_net(
    place: Fernmoor, sign_in: SignIn, as_owner: Owner, at: list[Any]
) -> None:
    client = sign_in(place)
    app = take_up(client, at)
    plain = _text(client.get("/money?days=30"))
    assert "taken back" not in plain and "Net" not in plain and "net" not in _text(client.get("/"))
    with as_owner(place), connection.cursor() as cursor:
        cursor.execute("SELECT sum(amount_micro)::bigint FROM payment WHERE accepted_at >= %s",
                       [NOW - timedelta(hours=12)])  # fmt: skip
        (received,) = cursor.fetchone()
    what = {"how": "reversed", "why": "charged back", "do": "confirm", "code": code_of(app, at)}
    assert client.post("/recharges/400/take-back", what).status_code == 302
    refund = _one(place, as_owner, "SELECT id FROM refund")
    paid = {"way": "cash", "do": "confirm", "code": code_of(app, at)}
    assert client.post(f"/refunds/{refund}", paid).status_code == 302
    net = money(received - 20_000_000 - 67_000_000, "EUR")
    # The recharge of days ago went back today: so it counts today, and stays on its own day's list.
    for page in ("/money", "/"):
        said = _text(client.get(page))
        for each in (
            f"Money received {money(received, 'EUR')}", "Taken back €20.00", "Refunds paid out €67.00",
            f"Net {net}",
        ):  # fmt: skip
            assert each in said, (page, each)
    rows = client.get("/money?days=30").content.decode()
    assert "taken back" in _row(rows, 400) and rows.count(">taken back<") == 1


def test_credit_that_moved_stays_received_and_its_row_says_that_it_moved(
    place: Fernmoor, sign_in: SignIn, at: list[Any]
) -> None:
    client = sign_in(place)
    code = code_of(take_up(client, at), at)
    form = {"how": "moved", "to": "N-202", "why": "next door", "do": "confirm", "code": code}
    assert client.post("/recharges/400/take-back", form).status_code == 302
    page = client.get("/money?days=30").content.decode()
    assert "moved to another account" in _row(page, 400)
    assert 'id="takings"' not in page, "the money never left the till"


def _row(page: str, event: int) -> str:
    return page.partition(f'id="p{event}"')[2].partition("</tr>")[0]


def test_a_property_that_takes_back_all_or_nothing_says_so(
    place: Fernmoor, sign_in: SignIn, as_owner: Owner
) -> None:
    client = sign_in(place)
    policy = Policy(DebtPolicy.Missing.REFUSE, DebtPolicy.Missing.LOSS, 100_000)
    with as_owner(place):
        set_policy(
            actor=system_actor("owner"), property_id=place.property_id, policy=policy, now=NOW
        )
    refused = client.post(
        "/recharges/400/take-back", {"how": "reversed", "why": "bounced", "do": "look"}
    )
    assert refused.status_code == 422
    assert "€9.04 of it have been used beyond" in _text(refused)


def test_a_refund_is_paid_out_once_with_name_and_receipt(
    place: Fernmoor, sign_in: SignIn, as_owner: Owner, at: list[Any]
) -> None:
    operator = sign_in(place, "operator")
    app = take_up(operator, at)
    where = f"/refunds/{_one(place, as_owner, 'SELECT id FROM refund')}"
    assert "F-12" in _text(operator.get("/refunds")) and "€67.00" in _text(operator.get("/refunds"))
    assert "F-12" in operator.get("/refunds.csv").content.decode()
    sure = operator.post(where, {"way": "cash", "reference": "ID card", "do": "look"})
    assert re.search(r"Pay €67\.00 to \w+ \w+\?", _text(sure))
    assert operator.post(where, {"way": "coins", "do": "confirm"}).status_code == 422
    proved = {"way": "cash", "reference": "ID card", "do": "confirm"}
    assert "you do this alone" in _text(sure)
    assert operator.post(where, proved | {"code": "123456"}).status_code == 422
    paid = operator.post(where, proved | {"code": code_of(app, at)})
    receipt = _text(operator.get(paid["Location"]))
    for each in (
        "Receipt of a refund",
        "F-12",
        "€67.00",
        "In cash, ID card",
        "Received (signature)",
    ):
        assert each in receipt, each
    again = operator.post(where, {"way": "cash", "do": "confirm"})
    assert again.status_code == 409 and "Do not pay it again" in _text(again)
    assert "Nothing is owed" in _text(operator.get("/refunds"))


def test_a_stall_is_let_after_a_look_and_ended_early_with_a_refund(
    place: Fernmoor, sign_in: SignIn, as_owner: Owner
) -> None:
    client = sign_in(place)
    page = client.get("/lets/new").content.decode()
    unit = re.search(r'<option value="(\d+)"[^>]*>([^<]+)</option>', page)
    assert unit is not None
    with as_owner(place):
        _run(
            """INSERT INTO tariff_assignment (property_id, account_id, tariff_id, valid_from)
               SELECT property_id, id, %(tariff)s, opened_at FROM account WHERE unit_id = %(unit)s""",
            {"tariff": place.tariff, "unit": int(unit[1])},
        )
    form = {
        "unit": unit[1], "plan": "STALL", "until": "2026-11-19T12:00", "who": "0", "name": "Mara Ruiz",
        "email": "", "phone": "", "paid": "30", "way": "cash",
    }  # fmt: skip
    refused = client.post("/lets/new", form | {"do": "look"})
    assert refused.status_code == 422 and "Rent and deposit together are €80.00" in _text(refused)
    early = client.post(
        "/lets/new", form | {"paid": "120", "until": "2026-11-17T10:00", "do": "look"}
    )
    assert early.status_code == 422 and 'id="f-until-why"' in early.content.decode()
    look = client.post("/lets/new", form | {"paid": "120", "do": "look"})
    said = _text(look)
    for each in ("€30.00", "3 days that begin", "€50.00", "€40.00", f"let {unit[2]} to Mara Ruiz"):
        assert each in said, each
    assert _one(place, as_owner, "SELECT count(*) FROM temporary_let") == 0
    confirmed = form | {"paid": "120", "do": "confirm", "key": _key(look)}
    first, again = client.post("/lets/new", confirmed), client.post("/lets/new", confirmed)
    assert first.status_code == 302 and first["Location"] == again["Location"]
    assert _one(place, as_owner, "SELECT count(*) FROM temporary_let") == 1
    assert "Mara Ruiz" in _text(client.get("/lets"))
    assert "Mara Ruiz" in client.get("/lets.csv?show=all").content.decode()
    where = first["Location"].partition("?")[0]
    from prewatt.web import clock

    clock.use(lambda: NOW + timedelta(seconds=1))
    # It ends here alone: moving out would keep the deposit.
    moving = f"/units/{unit[1]}/move/out"
    field = re.search(r'name="(register_\d+)"', client.get(moving).content.decode())
    assert field is not None
    register = _one(
        place,
        as_owner,
        "SELECT last_value_wh FROM meter_state s JOIN temporary_let USING (account_id)",
    )
    out = {"how": "typed", "at": "2026-11-17T14:30:01", "key": "out", "do": "look"}
    refused = client.post(moving, out | {field[1]: f"{register // 1000}.{register % 1000:03d}"})
    assert refused.status_code == 422 and "End the let on its own page" in _text(refused)
    look = client.post(where, {"do": "look"})
    # Two of three days have not begun: 20.00 of the rent, the deposit and the 40.00 for energy.
    assert "refund €110.00 to Mara Ruiz" in _text(look)
    assert _one(place, as_owner, "SELECT count(*) FROM refund") == 1
    assert client.post(where, {"do": "confirm"}).status_code == 302
    clock.use(lambda: NOW)
    ended = _text(client.get(where))
    assert "€110.00" in ended and "due and not paid out yet" in ended
    assert "Together, all that was paid €120.00" in ended and "Energy that was left €40.00" in ended
    # Who has left is found, named as such, with what the account ended with.
    found = _text(client.get("/accounts?q=mara"))
    assert "Former customers" in found and "17 November 2026 to 17 November 2026" in found
    assert "Mara Ruiz" in _text(client.get("/accounts/former?q=mara+ruiz"))
    assert "Nobody who has left matches" in _text(client.get("/accounts/former?q=nobody"))
    closed = _one(place, as_owner, "SELECT account_id FROM temporary_let")
    page = client.get(f"/accounts/{closed}").content.decode()
    assert "tenancy 17 November 2026 to 17 November 2026" in page and "unused" not in page
    for each in ("Closing statement", "due, not paid out yet", "Receipts", "€110.00", "€120.00"):
        assert each in page, each
    statement = re.search(r'href="(/units/\d+/hand-over\?at=\d+)"', page)
    assert statement is not None and client.get(statement[1]).status_code == 200
    assert "Mara Ruiz" in _text(client.get("/lets?show=ended"))
    assert _one(place, as_owner, "SELECT count(*) FROM refund") == 2


def test_a_customer_is_chosen_out_of_many_by_a_search_without_script(
    place: Fernmoor, sign_in: SignIn, as_owner: Owner
) -> None:
    with as_owner(place):
        _run(
            """INSERT INTO customer (property_id, name, email, phone, language)
               SELECT %(property)s, 'Trader ' || lpad(n::text, 5, '0'),
                      'trader' || n || '@example.org', '', 'en' FROM generate_series(1, 9999) n""",
            {"property": place.property_id},
        )
    client = sign_in(place)
    unit = re.search(r'<option value="(\d+)"', client.get("/lets/new").content.decode())
    assert unit is not None
    moving = f"/units/{unit[1]}/move/in"
    for page, name, more in (
        ("/lets/new", "who", {"unit": unit[1], "paid": "77"}),
        (moving, "customer", {"who": "known", "how": "typed", "at": ""}),
    ):
        form = more | {"do": "look", f"{name}_q": "trader 0000", f"{name}_asked": ""}
        found = client.post(page, form)
        seen = re.findall(r"Trader (\d{5})", found.content.decode())
        assert found.status_code == 200 and seen == [f"{n:05d}" for n in range(1, 9)], page
        assert "77" in found.content.decode() or name == "customer", "what was written stays"
        mark = re.search(rf'name="{name}_page" value="(after:[^"]+)"', found.content.decode())
        assert mark is not None
        further = client.post(
            page, form | {f"{name}_asked": "trader 0000", f"{name}_page": mark[1]}
        )
        assert re.findall(r"Trader (\d{5})", further.content.decode()) == ["00009"]
        (chosen,) = re.findall(rf'name="{name}" value="([1-9]\d*)"', further.content.decode())
        # Whoever is chosen stays chosen whatever is looked for next, and is taken by the look.
        other = client.post(page, form | {name: chosen, f"{name}_q": "fenwick"}).content.decode()
        assert re.search(rf'name="{name}" value="{chosen}" checked', other) and "Fenwick" in other
        part = client.get(f"/customers/pick/{name}", {f"{name}_q": "trader9999@", name: chosen})
        assert re.findall(r"Trader (\d{5})", part.content.decode()) == ["00009", "09999"]
        settled = form | {name: chosen, f"{name}_asked": "trader 0000"}
        assert f"{name}-why" not in client.post(page, settled).content.decode()
        unknown = client.post(page, settled | {name: "999999999"})
        assert unknown.status_code == 422 and f'id="f-{name}-why"' in unknown.content.decode()
    assert client.get("/customers/pick/anything").status_code == 404
    assert sign_in(place, "operator").get("/customers/pick/who").status_code == 403


def test_a_stall_is_let_for_days_to_come_and_cancelled_with_all_that_was_paid(
    place: Fernmoor, sign_in: SignIn, as_owner: Owner
) -> None:
    client = sign_in(place)
    page = client.get("/lets/new").content.decode()
    unit = re.search(r'<option value="(\d+)"[^>]*>([^<]+)<', page)
    assert unit is not None
    form = {
        "unit": unit[1], "plan": "STALL", "begin": "2026-11-20T08:00", "until": "2026-11-22T12:00",
        "who": "0", "name": "Mara Ruiz", "email": "", "phone": "", "paid": "120", "way": "cash",
    }  # fmt: skip
    wrong = client.post("/lets/new", form | {"begin": "soon", "do": "look"})
    assert wrong.status_code == 422 and 'id="f-begin-why"' in wrong.content.decode()
    look = client.post("/lets/new", form | {"do": "look"})
    assert look.status_code == 200 and "Begins by itself" in _text(look)
    done = client.post("/lets/new", form | {"do": "confirm", "key": _key(look)})
    assert done.status_code == 302
    page = _text(client.get(done["Location"]))
    assert "The let is announced and paid." in page and "€40.00" in page
    assert "Mara Ruiz" in _text(client.get("/lets?show=announced"))
    assert "Mara Ruiz" not in _text(client.get("/lets"))
    taken = client.post("/lets/new", form | {"do": "look", "key": "other"})
    assert taken.status_code == 422 and 'id="f-begin-why"' in taken.content.decode()
    account = _one(place, as_owner, "SELECT account_id FROM temporary_let WHERE begun_at IS NULL")
    assert client.get(f"/accounts/{account}").status_code == 200
    where = done["Location"].partition("?")[0]
    assert "refund €120.00 to Mara Ruiz" in _text(client.post(where, {"do": "look"}))
    assert client.post(where, {"do": "confirm"}).status_code == 302
    cancelled = _text(client.get(where))
    assert "cancelled before it began" in cancelled and "Rent €30.00 Deposit €50.00" in cancelled
    assert "Energy that was left €40.00 Refund €120.00" in cancelled
    assert "Refund €120.00 Together, all that was paid €120.00" in cancelled
    assert "Announced by" in cancelled and "cancelled before" in _text(
        client.get("/accounts?q=mara")
    )
    assert "Closed before the let began" in _text(client.get(f"/accounts/{account}"))
    # Nobody ever lived by the account: its unit is the one that was let.
    assert f"Mara Ruiz {unit[2]}" in _text(client.get("/refunds"))
    assert f"{unit[2]} Mara Ruiz" in _text(client.get("/money?days=30"))


def test_money_for_a_debt_is_taken_at_the_window_once_with_its_change(
    place: Fernmoor, sign_in: SignIn, as_owner: Owner
) -> None:
    operator, where = sign_in(place, "operator"), f"/debts/{_debt(place, euro=3)}"
    form = {"deed": "pay", "offered": "5", "way": "cash"}
    refused = operator.post(where, form | {"offered": "0", "way": "coins"})
    assert refused.status_code == 422
    assert 'id="f-offered-why"' in refused.content.decode()
    look = operator.post(where, form | {"do": "look"})
    for each in (
        "Take €3.00 from Orla Fenwick, N-305, for D-1?",
        "Change to give back €2.00",
        "4410",
    ):
        assert each in _text(look), each
    assert _one(place, as_owner, "SELECT count(*) FROM debt WHERE closed_at IS NOT NULL") == 0
    confirmed = form | {"do": "confirm", "key": _key(look)}
    first, again = operator.post(where, confirmed), operator.post(where, confirmed)
    assert first.status_code == again.status_code == 302
    told = _text(operator.get(where))
    assert "D-1 of Orla Fenwick is closed" in told and "Paid at the window" in told
    late = operator.post(where, form | {"do": "confirm", "key": "another"})
    assert late.status_code == 422 and "The debt is closed" in _text(late)
    assert sign_in(place, "auditor").post(where, confirmed).status_code == 403


@pytest.mark.parametrize(
    ("residual", "said", "left"),
    [(4_322, "the property keeps it", "67.004322"), (-1_700, "the property adds it", "66.9983")],
)
def test_a_refund_shows_what_its_rounding_was_and_where_it_went(
    place: Fernmoor,
    sign_in: SignIn,
    as_owner: Owner,
    at: list[Any],
    residual: int,
    said: str,
    left: str,
) -> None:
    with as_owner(place):
        _off(place, -residual, counter=16)
    refund = _one(place, as_owner, "SELECT id FROM refund")
    client = sign_in(place)
    app = take_up(client, at)
    for _when in ("before it is paid", "on the receipt"):
        page = _text(client.get(f"/refunds/{refund}"))
        assert f"Left on the account €{left}" in page and said in page
        assert f"{'−' if residual > 0 else '+'}€0.00{abs(residual):04d}".rstrip("0") in page
        paid = {"way": "cash", "do": "confirm", "code": code_of(app, at)}
        client.post(f"/refunds/{refund}", paid)
    header, row = client.get("/refunds.csv?show=paid").content.decode().splitlines()
    assert "Rounding EUR" in header and f",{-residual / 1_000_000:.6f}".rstrip("0") in row
    chinese = sign_in(place, language="zh-hans").get(f"/refunds/{refund}").content.decode()
    assert "账户余额" in chinese and "尾差" in chinese


def test_a_refund_of_whole_cents_says_nothing_of_rounding(
    place: Fernmoor, sign_in: SignIn, as_owner: Owner
) -> None:
    refund = _one(place, as_owner, "SELECT id FROM refund")
    assert "Rounded" not in _text(sign_in(place).get(f"/refunds/{refund}"))
