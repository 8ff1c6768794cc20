"""The access matrix, cell by cell: every address and operation, every duty, own and foreign."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from fernmoor import NOW, Fernmoor, _one, _run
from prewatt.access.models import Duty, User
from prewatt.access.scope import PERMISSIONS, Actor, PermissionRefused, require
from prewatt.access_matrix import DUTIES, duties_with, faults, inner, operations, table
from prewatt.web.rules import ANYBODY, HOMES, KEY, NOBODY, RULES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "access.md"
FOREIGN_NAMES = ("Elsewhere Court", "Beside Court", "Foreign Fritz", "M-FOREIGN")
#: A recharge that was taken back shows who did it to every reader; before that, who may do it.
SHOWN_WHEN_DONE = "recharges/<id:event_id>/take-back"
#: Where nothing of the kind stands in the test's property: a number that nothing has.
NOTHING = 999_999


def test_the_page_says_what_the_code_has_and_nothing_stands_outside() -> None:
    assert faults() == []
    assert PAGE.read_text() == table(), (
        "prewatt access --write docs/access.md, and read what changed"
    )


def test_every_permission_is_held_or_refused_by_every_duty_at_every_place() -> None:
    for permission, holders in PERMISSIONS.items():
        for duty in DUTIES:
            actor = Actor("user:1", duty, (1,))
            for place, is_own in ((1, True), (2, False)):
                if duty in holders and is_own:
                    require(actor, permission, property_id=place)
                else:
                    with pytest.raises(PermissionRefused):
                        require(actor, permission, property_id=place)


def test_operations_refuse_whoever_may_not_before_they_do_anything() -> None:
    """Called with nothing but the actor, an operation that asks first never comes to miss the rest."""
    called = 0
    for each in operations():
        if not each.first:
            continue
        module, _, name = each.name.rpartition(".")
        function = inspect.unwrap(getattr(importlib.import_module(f"prewatt.{module}"), name))
        missing = dict.fromkeys(inspect.signature(function).parameters)
        for duty in set(DUTIES) - duties_with(" ".join(each.permissions)):
            with pytest.raises(PermissionRefused):
                function(**missing | {"actor": Actor("user:1", duty, (1,))})
            called += 1
        foreign = inspect.signature(function).parameters.get("property_id")
        if foreign is not None:
            for duty in duties_with(" ".join(each.permissions)) - {Duty.SYSTEM}:
                with pytest.raises(PermissionRefused):
                    function(**missing | {"actor": Actor("user:1", duty, (1,)), "property_id": 2})
                called += 1
    assert called > 150


def test_a_new_operation_or_page_is_noticed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from prewatt import access_matrix
    from prewatt.web import rules

    code = {
        "vending/operations.py": "def give(*, actor, account_id):\n    return account_id\n",
        "supply/reads.py": "def peek(*, actor):\n    with scope(actor):\n        return rows()\n",
        "web/page.py": "from prewatt.estate.operations import close\n",
        "estate/operations.py": "def close(*, account_id):\n    return rows(account_id)\n",
    }
    for name, text in code.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(access_matrix, "ROOT", tmp_path)
    # Another mapping and not an entry: put back, an entry would stand last, and the page has their order.
    others = {route: rule for route, rule in RULES.items() if route != "debts"}
    monkeypatch.setattr(rules, "RULES", others | {"nowhere": RULES["money"]})
    access_matrix._all_functions.cache_clear()
    access_matrix._by_short_name.cache_clear()
    try:
        said = faults()
    finally:
        access_matrix._all_functions.cache_clear()
        access_matrix._by_short_name.cache_clear()
    assert sorted(each.split(" ")[0] for each in said[:2]) == [
        "supply.reads.peek",
        "vending.operations.give",
    ]
    assert said[2].startswith("web.page")
    assert "the address /debts has no rule" in said[3] and "/nowhere" in said[4]


# --- the pages ---


class World:
    """One property with everybody, another of the same company, and one of another company."""

    def __init__(self, place: Fernmoor) -> None:
        self.place = place
        account = place.accounts["N-305"]
        self.customer = _one("SELECT customer_id FROM account WHERE id = %s", account)
        self.users = dict(place.users)
        for duty in ("installer", "owner"):
            self.users[duty] = place.another_user(duty, duty.title(), duty)
        tenant = _one(
            """INSERT INTO app_user (email, name, language, is_active, password, created_at)
               VALUES ('orla@fernmoor.example', 'Orla', 'en', true, '', %s) RETURNING id""",
            NOW,
        )
        _run(
            """INSERT INTO duty_grant (user_id, property_id, customer_id, duty, granted_at)
               VALUES (%s, %s, %s, 'tenant', %s)""",
            tenant, place.property_id, self.customer, NOW,
        )  # fmt: skip
        self.users["tenant"] = tenant
        (self.tariff,) = _run("SELECT code FROM tariff ORDER BY id LIMIT 1")[0]
        event = _one("SELECT event_id FROM payment ORDER BY id LIMIT 1")
        self.own = {
            "account_id": account, "unit_id": place.units["N-305"], "meter_id": place.meters["N-305"],
            "event_id": event, "name": "app.css", "deed": "out", "kind": "posted", "day": "2026-11-16",
            "code": self.tariff, "alert_id": self._alert(place.property_id),
            "tamper_id": self._case(place.property_id, place.meters["N-305"]),
        }  # fmt: skip
        beside = place.another("Beside Court")
        self.foreign = (self._things(beside), self._things(self._another_company()))

    def _another_company(self) -> int:
        company = _one("INSERT INTO organisation (name) VALUES ('Elsewhere') RETURNING id")
        entity = _one(
            """INSERT INTO legal_entity (organisation_id, name, tax_number)
               VALUES (%s, 'Elsewhere', '') RETURNING id""",
            company,
        )
        return _one(
            """INSERT INTO property (organisation_id, legal_entity_id, code, name, currency,
                   minor_digits, time_zone, holiday_calendar, language)
               VALUES (%s, %s, 'EW', 'Elsewhere Court', 'EUR', 2, 'Europe/Berlin', '', 'en')
               RETURNING id""",
            company, entity,
        )  # fmt: skip

    def _things(self, place: int) -> dict[str, Any]:
        """What another property has of each kind that an address can name."""
        unit = self.place.another_unit(place)
        customer = _one(
            """INSERT INTO customer (property_id, name, email, phone, language)
               VALUES (%s, 'Foreign Fritz', '', '', 'en') RETURNING id""",
            place,
        )
        account = _one(
            """INSERT INTO account (property_id, number, kind, customer_id, opened_at)
               VALUES (%s, '7', 'customer', %s, %s) RETURNING id""",
            place, customer, NOW,
        )  # fmt: skip
        meter = _one(
            """INSERT INTO meter (property_id, serial, model, driver, multiplier, modulus_wh, max_power_w,
                   has_relay, expected_period_s)
               VALUES (%s, %s, '', 'mqtt_senml', 1, 1000000000, 25000, true, 900) RETURNING id""",
            place, f"M-FOREIGN{place}",
        )  # fmt: skip
        return {
            "account_id": account, "unit_id": unit, "meter_id": meter, "alert_id": self._alert(place),
            "property_id": place, "tamper_id": self._case(place, meter),
        }  # fmt: skip

    def _case(self, place: int, meter: int) -> int:
        return _one(
            """INSERT INTO tamper_case (property_id, meter_id, kind, opened_at, first_at, last_at, evidence_count)
               VALUES (%s, %s, 1, %s, %s, %s, 1) RETURNING id""",
            place, meter, NOW, NOW, NOW,
        )  # fmt: skip

    def _alert(self, place: int) -> int:
        return _one(
            """INSERT INTO alert (property_id, code, subject, detail, opened_at, closed_by, close_note)
               VALUES (%s, 'mdm.tamper', 'meter:0', '{}', %s, '', '') RETURNING id""",
            place, NOW,
        )  # fmt: skip


def filled(route: str, things: dict[str, Any]) -> str:
    """The address with ids in it; of what the test has not, an id that nothing has."""

    def one(found: re.Match[str]) -> str:
        kind, name = found[1], found[2]
        return str(things.get(name, NOTHING if kind == "id" else "none"))

    return "/" + re.sub(r"<(\w+):(\w+)>", one, route)


def signed_in(world: World, duty: str) -> Client:
    """A browser of this duty's person, by a second factor."""
    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.get(pk=world.users[duty]))
    session = client.session
    session["proved"] = "code"
    session.save()
    return client


@pytest.fixture
def world(fernmoor: Fernmoor, as_owner: Callable[..., Any]) -> World:
    with as_owner(fernmoor):
        return World(fernmoor)


@pytest.mark.parametrize("duty", [each.value for each in DUTIES])
def test_every_address_answers_every_duty_as_the_page_says(world: World, duty: str) -> None:
    client = signed_in(world, duty)
    client.raise_request_exception = False
    wrong = []
    for route, rule in RULES.items():
        if rule.read in {NOBODY, KEY} or route in {"live", "sign-out", "property/switch"}:
            continue
        own = filled(route, world.own)
        may_look = Duty(duty) in duties_with(rule.read)
        looked = client.get(own)
        expected = {200, 302, 404, 409} if may_look else {403}
        if rule.read == ANYBODY:
            # Some of a person's own are nothing but a deed.
            expected |= {405}
        if route == SHOWN_WHEN_DONE and Duty(duty) not in duties_with(rule.write):
            expected = {403}
        if route == "" and not may_look:
            expected = {302} if Duty(duty) in HOMES else {403}
        if looked.status_code not in expected:
            wrong.append((own, "look", looked.status_code))
        if may_look and looked.status_code == 200 and not looked.streaming:
            text = looked.content.decode()
            wrong += [(own, "shows", each) for each in FOREIGN_NAMES if each in text]
        if not rule.write:
            if client.post(own).status_code != 405:
                wrong.append((own, "takes a form", 0))
        elif Duty(duty) not in duties_with(rule.write):
            for each in (own, *(filled(route, things) for things in world.foreign)):
                if client.post(each).status_code != 403:
                    wrong.append((each, "do", 0))
        if any(
            f":{name}>" in route
            for name in ("account_id", "unit_id", "meter_id", "alert_id", "tamper_id")
        ):
            for things in world.foreign:
                foreign = filled(route, things)
                seen = client.get(foreign).status_code
                if seen != (404 if may_look else 403):
                    wrong.append((foreign, "foreign", seen))
    for things in world.foreign:
        gone = client.post("/property/switch", {"property": things["property_id"]})
        if gone.status_code != 403:
            wrong.append(("switch", "foreign", gone.status_code))
    assert wrong == []


def test_a_tenant_sees_their_wallet_and_no_neighbours(world: World) -> None:
    client = signed_in(world, "tenant")
    assert client.get("/")["Location"] == "/mine"
    for language, words in (("en", "Credit left"), ("zh-hans", "剩余金额")):
        client.cookies["prewatt_language"] = language
        page = client.get("/mine").content.decode()
        assert words in page and "N-305" in page
        assert (
            "N-306" not in page and 'action="/accounts"' not in page and 'href="/units"' not in page
        )
    assert "Orla Fenwick" in page, "what was written to them"
    figures = signed_in(world, "owner").get("/figures").content.decode()
    assert "Fernmoor Court" in figures and "Fenwick" not in figures
    round_ = signed_in(world, "installer").get("/work").content.decode()
    assert "N-305" in round_ and "Fenwick" not in round_ and "€" not in round_
    assert len(inner()) > 30
