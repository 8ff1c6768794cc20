"""The recharge: what it will do is shown before, money is taken once, refusals say what is safe."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from typing import Any

from fernmoor import NOW, Fernmoor
from prewatt.access.models import Duty
from prewatt.access.scope import Actor
from prewatt.debts.models import Debt
from prewatt.debts.operations import open_debt
from prewatt.web.console.export import decimal
from prewatt.web.console.sheet_writer import guarded


def _key(page: str) -> str:
    found = re.search(r'name="key" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def test_the_confirmation_names_amount_person_and_meter(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    where = f"/accounts/{fernmoor.accounts['N-404']}/recharge"
    page = sign_in(fernmoor, "operator").get(f"{where}?amount=50").content.decode()
    for said in ("Recharge €50.00 for N-404, ", "4410", "€44.90", "−€5.10", "none"):
        assert said in page, said
    assert "Supply is switched on at once" in page
    too_little = sign_in(fernmoor).get(f"{where}?amount=0.05").content.decode()
    assert "Supply stays cut" in too_little


def test_refused_amounts_say_why_and_take_nothing(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client = sign_in(fernmoor)
    where = f"/accounts/{fernmoor.accounts['N-305']}/recharge"
    for text in ("0", "-5", "abc", "1.234", "1,000", "1e3", "999999999", "0" * 70 + "5"):
        for response in (
            client.get(where, {"amount": text}),
            client.post(where, {"amount": text, "way": "cash", "key": "k"}),
        ):
            assert response.status_code == 422, text
            assert 'aria-invalid="true"' in response.content.decode()


def test_a_way_of_paying_that_nobody_offered_is_never_booked_as_cash(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client = sign_in(fernmoor, "operator")
    where = f"/accounts/{fernmoor.accounts['N-305']}/recharge"
    for number, way in enumerate(({}, {"way": ""}, {"way": "refund"}, {"way": "Cash"})):
        response = client.post(where, {"amount": "20", "key": f"w{number}"} | way)
        assert response.status_code == 422, way
        assert "Choose how it is paid" in response.content.decode()


def test_pressing_twice_takes_money_once(fernmoor: Fernmoor, sign_in: Callable[..., Any]) -> None:
    client = sign_in(fernmoor, "operator")
    account = fernmoor.accounts["N-305"]
    where = f"/accounts/{account}/recharge"
    key = _key(client.get(f"{where}?amount=20").content.decode())
    form = {"amount": "20", "way": "cash", "key": key}
    first, second = client.post(where, form), client.post(where, form)
    assert first.status_code == 302 and first["Location"] == second["Location"]
    other = client.post(where, form | {"amount": "30"})
    assert other.status_code == 422
    assert "No money was taken" in other.content.decode()
    result = client.get(first["Location"]).content.decode()
    assert "€20.00 is on the account of N-305" in result
    assert "load delay:" in result, "what the meter did before the page listened is seen, too"
    assert "€25.96" in client.get(f"/accounts/{account}").content.decode().replace(
        "<small>€</small>", "€"
    )


def test_amounts_are_read_as_people_write_them_and_sent_on_as_they_were_read(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client = sign_in(fernmoor, "operator")
    where = f"/accounts/{fernmoor.accounts['N-305']}/recharge"
    for text in ("5,50", "\uff15\uff0e\uff15", "5,5 \u20ac", "\u20ac5.50"):
        page = client.get(where, {"amount": text}).content.decode()
        assert "Recharge \u20ac5.50 for N-305" in page, text
        assert 'name="amount" value="5.50"' in page, text
    unsure = client.get(where, {"amount": "1,000"}).content.decode()
    assert "\u201c1,000\u201d can mean thousands or decimals. Write 1000, or" in unsure


def test_an_unusual_amount_is_asked_about_once_more_and_sold_once(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client = sign_in(fernmoor, "operator")
    account = fernmoor.accounts["N-404"]
    where = f"/accounts/{account}/recharge"
    sales = (
        f"SELECT count(*), coalesce(sum(amount_micro), 0) FROM payment WHERE account_id = {account}"
    )
    before, sold = fernmoor.counted(sales)
    page = client.get(f"{where}?amount=50,000.00").content.decode()
    assert "You are asked once more" in page
    form = {"amount": "50000.00", "way": "cash", "key": _key(page)}
    asked = client.post(where, form)
    shown = asked.content.decode()
    assert asked.status_code == 200 and _key(shown) == form["key"]
    for said in (
        "Is it really \u20ac50,000.00?",
        "is usually paid at this property",
        "days",
        "N-404",
    ):
        assert said in shown, said
    sure = re.search(r'name="sure" value="([0-9]+)"', shown)
    assert sure is not None and fernmoor.counted(sales) == (before, sold)
    # Another amount needs a look of its own, and the old word for it is none.
    other = client.post(where, form | {"amount": "60000.00", "sure": sure[1]})
    assert other.status_code == 200 and fernmoor.counted(sales) == (before, sold)
    first, second = (client.post(where, form | {"sure": sure[1]}) for _ in range(2))
    assert first.status_code == 302 and first["Location"] == second["Location"]
    assert fernmoor.counted(sales) == (before + 1, sold + 50_000_000_000)
    # The limit of a recharge stays a refusal, whatever is said to be sure.
    over = client.post(where, {**form, "amount": "100000.01", "sure": "100000010000"})
    assert over.status_code == 422
    assert client.post(where, {**form, "amount": "20", "key": "usual"}).status_code == 302


def test_what_a_debt_takes_is_shown_before_paying_and_on_the_receipt(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    account = fernmoor.accounts["N-305"]
    where, client = f"/accounts/{account}/recharge", sign_in(fernmoor, "operator")
    before = client.get(where).content.decode()
    assert "No fee. Nothing is taken" in before and "D-1" not in before
    open_debt(
        actor=Actor("user:5", Duty.ADMINISTRATOR, (fernmoor.property_id,)), account_id=account, amount_micro=30_000_000,
        reason=Debt.Reason.AGREED, note="", share_ppm=250_000, weekly_cap_micro=0, key="d",
        now=NOW,
    )  # fmt: skip
    form = client.get(where).content.decode()
    assert "D-1" in form and "€30.00" in form and "No fee" not in form
    page = client.get(f"{where}?amount=20").content.decode()
    for said in ("Debt repaid", "D-1", "€5.00", "€15.00"):
        assert said in page, said
    paid = client.post(where, {"amount": "20", "way": "cash", "key": _key(page)})
    receipt = client.get(paid["Location"]).content.decode()
    for said in ("Debt repaid", "D-1", "€5.00", "€15.00"):
        assert said in receipt, said


def test_a_form_without_its_token_is_refused(fernmoor: Fernmoor) -> None:
    from django.test import Client

    from prewatt.access.models import User

    client = Client(enforce_csrf_checks=True, headers={"host": "localhost"})
    client.force_login(User.objects.get(pk=fernmoor.users["operator"]))
    where = f"/accounts/{fernmoor.accounts['N-305']}/recharge"
    refused = client.post(where, {"amount": "20", "way": "cash", "key": "k"})
    assert refused.status_code == 403
    assert "no money was taken" in refused.content.decode()


def test_an_export_cannot_run_as_a_formula(fernmoor: Fernmoor, sign_in: Callable[..., Any]) -> None:
    assert guarded("=1+1") == "'=1+1" and guarded("@x") == "'@x" and guarded("Orla") == "Orla"
    for wide in "\uff1d\uff0b\uff0d\uff20":
        assert guarded(f"{wide}1") == f"'{wide}1", "the spreadsheets of the Far East run it too"
    assert decimal(-3_410_000) == "-3.41" and decimal(1) == "0.000001"
    text = sign_in(fernmoor).get("/accounts.csv?q=N-603").getvalue().decode("utf-8-sig")
    head, row = list(csv.reader(io.StringIO(text)))
    assert head[6] == "Balance EUR" and row[1] == "N-603" and row[6] == "-3.41"


def test_a_file_has_the_times_of_its_page_and_says_whose_they_are(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client = sign_in(fernmoor)
    fernmoor.alert()
    for name in (
        "accounts",
        "meters/held",
        "tariffs",
        "alerts",
        "lets",
        "refunds",
        "debts",
        "tariffs/announced",
    ):
        response = client.get(f"/{name}.csv?show=all")
        content = response.getvalue() if response.streaming else response.content
        head, *lines = list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))
        timed = [at for at, each in enumerate(head) if each.endswith(" (Europe/Berlin)")]
        assert timed, name
        for line in lines:
            for at, cell in enumerate(line):
                is_time = re.fullmatch(r"2[0-9-]{9}T[0-9:]{5,8}\+0[12]:00", cell)
                assert is_time or not cell if at in timed else "+00:00" not in cell, (name, cell)
                if head[at].endswith(" EUR"):
                    assert re.fullmatch(r"-?[0-9]+\.[0-9]{2,6}", cell), (
                        "a number to any spreadsheet"
                    )
    alerts = list(csv.reader(io.StringIO(client.get("/alerts.csv").content.decode("utf-8-sig"))))
    assert "2026-11-17T14:30+01:00" in alerts[1]
    chinese = sign_in(fernmoor, language="zh-hans").get("/debts.csv").content.decode()
    assert "（Europe/Berlin）" in chinese


def test_signing_in_and_out(fernmoor: Fernmoor) -> None:
    from django.test import Client

    from fernmoor import PASSWORD

    client = Client(headers={"host": "localhost"})
    wrong = client.post("/sign-in", {"email": "operator@fernmoor.example", "password": "no"})
    assert wrong.status_code == 403 and "Not signed in" in wrong.content.decode()
    right = client.post(
        "/sign-in",
        {"email": "Operator@fernmoor.example", "password": PASSWORD, "next": "//evil.example"},
    )
    assert right.status_code == 302 and right["Location"] == "/"
    assert client.get("/").status_code == 200
    client.post("/sign-out")
    assert client.get("/").status_code == 302
