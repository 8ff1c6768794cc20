"""The access matrix, cell by cell: every address and operation, every duty, own and foreign."""

from __future__ import annotations

import copy
import inspect
import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache
from itertools import product
from pathlib import Path
from pkgutil import resolve_name
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from django.http import HttpResponse
from django.test import Client, RequestFactory

from fernmoor import NOW, TARIFF, Fernmoor, _one, _run
from prewatt.access.models import Duty, User
from prewatt.access.scope import FOR_PEOPLE, PERMISSIONS, Actor, PermissionRefused, require
from prewatt.access_matrix import DUTIES, duties_with, faults, inner, operations, table
from prewatt.api_keys.models import DUTIES as KEY_DUTIES
from prewatt.api_keys.operations import new_key, permissions_of
from prewatt.web import errors
from prewatt.web.rules import ANYBODY, API, HOMES, NOBODY, RULES, Rule
from prewatt.web.session import SignedIn

PAGE = Path(__file__).resolve().parents[2] / "docs" / "access.md"
FOREIGN_NAMES = ("Elsewhere Court", "Beside Court", "Foreign Fritz", "M-FOREIGN", "C-FOREIGN")
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
        function = inspect.unwrap(resolve_name(f"prewatt.{each.name}"))
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
        "vending/till.py": "class Till:\n    def __init__(self, actor):\n        self.a = actor\n"
        "    def sell(self):\n        with scope(self.a):\n            return rows()\n",
        "vending/words.py": "class Ask:\n    actor: Actor\n",
        "hes/reads.py": "def peek():\n    with scope(somebody):\n        return rows()\n",
        "supply/reads.py": "def peek(*, actor):\n    with scope(actor):\n        return rows()\n",
        "web/page.py": "from prewatt.estate.operations import close\n",
        "estate/operations.py": "def close(*, account_id):\n    return rows(account_id)\n",
    }
    for name, text in code.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(access_matrix, "ROOT", tmp_path)
    # Another mapping and not an entry: put back, an entry would stand last, and the page has their order.
    others = {route: rule for route, rule in RULES.items() if route not in {"debts", f"{API}units"}}
    monkeypatch.setattr(rules, "RULES", others | {"nowhere": RULES["money"]})
    remembered = (
        access_matrix._all_functions, access_matrix._by_short_name, access_matrix._found
    )  # fmt: skip
    for each in remembered:
        each.cache_clear()
    try:
        said = faults()
    finally:
        for each in remembered:
            each.cache_clear()
    assert [each.split(" ")[0] for each in said[:3]] == [
        "supply.reads.peek",
        "vending.operations.give",
        "vending.till.Till",
    ]
    assert said[3].startswith("web.page") and said[4].startswith("hes.reads.peek")
    assert "the address /api/v1/units has no rule" in said[5]
    assert "the address /debts has no rule" in said[6] and "/nowhere" in said[7]
    assert len(said) == 8


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
        event = 10**9
        place._payment(account, event, NOW, 7_000_000, "cash")
        place._transfer(account, 10**6, event, 1, 0, 7_000_000, 7_000_000, NOW, 0)
        self.own = {
            "account_id": account, "unit_id": place.units["N-305"], "meter_id": place.meters["N-305"],
            "event_id": event, "recharge_id": event, "name": "app.css", "deed": "out", "kind": "posted", "day": "2026-11-16",
            "code": self.tariff, "alert_id": self._alert(place.property_id), "serial": "44102001",
            "tamper_id": self._case(place.property_id, place.meters["N-305"]),
        }  # fmt: skip
        place.settle("N-305")
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

    def _estate(self, place: int) -> Fernmoor:
        """A unit of another property, with its tenant, meter, plan and wallet."""
        there = copy.copy(self.place)
        there.property_id = place
        there.entity = _one("SELECT legal_entity_id FROM property WHERE id = %s", place)
        # Numbers of accounts and meters are counted from these.
        there.meters = dict.fromkeys((str(each) for each in range(1000 * place)), 0)
        there.accounts, there.units = {}, {}
        laid("supply_policy", property_id=place, body="{}")
        there._tariff()
        there._unit(there._building("E", "East", 0), "E-1", "1", 0, 1, "flat")
        there.settle("E-1")
        account, event = there.accounts["E-1"], 10**9 + place
        there._payment(account, event, NOW, 7_000_000, "cash")
        there._transfer(account, 10**6, event, 1, 0, 7_000_000, 7_000_000, NOW, 0)
        for each in ("customer", "tariff"):
            _run(f"UPDATE {each} SET name = 'Foreign Fritz' WHERE property_id = %s", place)
        _run("UPDATE meter SET serial = %s WHERE property_id = %s", f"M-FOREIGN{place}", place)
        _run("UPDATE tariff SET code = %s WHERE property_id = %s", f"FOREIGN{place}", place)
        return there

    def _things(self, place: int) -> dict[str, Any]:
        """What another property has of each kind that an address can name."""
        there = self._estate(place)
        account, unit, meter = there.accounts["E-1"], there.units["E-1"], there.meters["E-1"]
        organisation = _one("SELECT organisation_id FROM property WHERE id = %s", place)
        colleague = laid(
            "app_user",
            email=f"fritz{place}@elsewhere.example",
            name="Foreign Fritz",
            is_active=True,
        )
        laid(
            "duty_grant", user_id=colleague, property_id=place, duty="operator", organisation_id=organisation
        )  # fmt: skip
        held = laid(
            "vee_case", property_id=place, meter_id=meter, account_id=account, register_code=1,
            reason="plausible", state="held",
        )  # fmt: skip
        laid(
            "commissioning", property_id=place, meter_id=meter, fitted_at=NOW, hear_by=NOW, fitted_by="user:1",
        )  # fmt: skip
        laid(
            "tariff_draft", property_id=place, code=f"FOREIGN{place}", name="Foreign Fritz",
            content=json.dumps(TARIFF),
        )  # fmt: skip
        return {
            "account_id": account, "unit_id": unit, "meter_id": meter, "alert_id": self._alert(place),
            "tamper_id": self._case(place, meter), "serial": f"M-FOREIGN{place}",
            "concentrator_id": laid("concentrator", property_id=place, serial=f"C-FOREIGN{place}"),
            "recharge_id": 10**9 + place, "property_id": place, "organisation_id": organisation, "case_id": held, "code": f"FOREIGN{place}", "user_id": colleague,
            "recharges/event_id": 10**9 + place, "accounts/event_id": 10**9 + place,
            "audit/kind": "account", "number": account,
            **self._money(place, account, unit, there.version), **self._oversight(place),
            **self._agreements(place, organisation, account),
        }  # fmt: skip

    def _money(self, place: int, account: int, unit: int, version: int) -> dict[str, Any]:
        return {
            "debt_id": laid(
                "debt", property_id=place, account_id=account, legal_entity_id=place, number=place,
                reason="agreed", principal_micro=7, origin_event_id=10**9 + place,
            ),
            "refund_id": laid(
                "refund", property_id=place, account_id=account, event_id=10**9 + place, number=place,
                amount_micro=7, state="due",
            ),
            "let_id": laid(
                "temporary_let", property_id=place, unit_id=unit, account_id=account,
                tariff_version_id=version, begins_at=NOW, ends_at=NOW + timedelta(days=9), units=1,
                fee_micro=0, deposit_micro=0,
            ),
            "tariffs/event_id": laid(
                "price_event", property_id=place, overlay_group="peak", from_at=NOW + timedelta(days=2),
                until_at=NOW + timedelta(days=3),
            ),
        }  # fmt: skip

    def _oversight(self, place: int) -> dict[str, Any]:
        watch = laid(
            "audit_watch", property_id=place, kind="night_change", name="Foreign Fritz", is_on=True
        )
        return {
            "audit/event_id": laid(
                "audit_event", property_id=place, actor="user:1", code="reads.board", subject="property:1"
            ),
            "watch_id": watch,
            "finding_id": laid(
                "watch_finding", property_id=place, watch_id=watch, key="a", actor="user:1",
                subject="user:1",
            ),
        }  # fmt: skip

    def _agreements(self, place: int, organisation: int, account: int) -> dict[str, Any]:
        proposal = laid(
            "proposal", property_id=place, kind="supply.protection", subject=f"account:{account}",
            reason="Foreign Fritz", made_by="user:1", expires_at=NOW + timedelta(days=9), state="open",
            needed=1, effect=json.dumps({"protection": "fire"}),
        )  # fmt: skip
        group = laid("property_group", organisation_id=organisation, name=f"Foreign Fritz {place}")
        laid(
            "property_group_member", property_group_id=group, property_id=place,
            organisation_id=organisation,
        )  # fmt: skip
        return {
            "proposal_id": proposal, "group_id": group,
            "key_id": laid(
                "api_key", property_id=place, public_id=f"foreign{place}", name="Foreign Fritz",
                duty="operator", permissions=["accounts.read"], proposal_id=proposal, made_by="a",
                approved_by="b", expires_at=NOW + timedelta(days=9),
            ),
        }  # fmt: skip

    def _case(self, place: int, meter: int) -> int:
        return laid("tamper_case", property_id=place, meter_id=meter, kind=1, evidence_count=1)

    def _alert(self, place: int) -> int:
        return laid("alert", property_id=place, code="mdm.tamper", subject="meter:0")


#: What a column holds of which nothing is said, by its type.
_FILLED: dict[str, Any] = {
    "bigint": 1, "integer": 1, "smallint": 1, "boolean": False, "jsonb": "{}", "bytea": b"\0" * 32,
    "ARRAY": [], "timestamp with time zone": NOW,
}  # fmt: skip


def laid(table: str, **given: Any) -> int:
    """A row past all operations, its columns without a word filled by their type; its number, or 0."""
    needed = _needed(table)
    own = next((name for name, _, is_own in needed if is_own), "0")
    row = {name: _FILLED.get(kind, "") for name, kind, is_own in needed if not is_own} | given
    return _one(
        f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))}) RETURNING {own}",
        *row.values(),
    )


@cache
def _needed(table: str) -> tuple[tuple[str, str, bool], ...]:
    """Columns that a row has to name, and the one that numbers itself: name, type, whether it does."""
    found = _run(
        """SELECT column_name, data_type, is_identity = 'YES' FROM information_schema.columns
           WHERE table_schema = 'public' AND table_name = %s
             AND (is_identity = 'YES' OR (is_nullable = 'NO' AND column_default IS NULL))""",
        table,
    )
    return tuple((name, kind, is_own) for name, kind, is_own in found)


def filled(route: str, things: dict[str, Any]) -> str:
    """The address with ids in it; of what the test has not, an id that nothing has.

    A number that means another thing below another word is looked up with that word before it.
    """
    word = route.partition("/")[0]

    def one(found: re.Match[str]) -> str:
        kind, name = found[1] or "id", found[2]
        plain = things.get(name, NOTHING if kind == "id" else "none")
        return str(things.get(f"{word}/{name}", plain))

    return "/" + re.sub(r"<(?:(\w+):)?(\w+)>", one, route)


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


@pytest.fixture
def without_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals by their status alone: a thousand pages of two sentences are nothing to look at."""
    monkeypatch.setattr(
        errors, "_page", lambda _request, _kind, status: HttpResponse(status=status)
    )


def test_the_wall_before_the_pages_has_no_other_cell(without_pages: None) -> None:
    """Asked by itself: every address, look and deed, before any view and whatever number stands in it."""
    wall, ways = SignedIn(lambda _request: HttpResponse()), RequestFactory()
    for route, rule in {**RULES, "nowhere": None}.items():
        if route.startswith(API):
            continue
        for duty, method in product(DUTIES, ("GET", "POST")):
            request = ways.generic(method, filled(route, {}))
            request.resolver_match = SimpleNamespace(route=route)  # type: ignore[assignment]
            request.actor = Actor("user:1", duty, (1,))  # type: ignore[attr-defined]
            answer = wall.process_view(request, None, (), {})
            if rule is None:
                expected: int | None = 403
            elif not rule.wanted(method):
                expected = 405
            elif rule.read == NOBODY or duty in duties_with(rule.wanted(method)):
                expected = 302 if route == "" and duty in HOMES else None
            else:
                expected = 302 if route == "" and duty in HOMES else 403
            got = answer.status_code if answer is not None else None
            assert got == expected, (route, duty, method)


#: Behind the wall they are another's part: a stream, an end, and what is asked for each place below.
_APART = {"live", "sign-out", "property/switch"}
#: What is listed by a word and not by a number is empty where nothing is theirs; it shows nobody's.
_EMPTY = {"audit/of/<str:kind>:<id:number>"}


@pytest.mark.parametrize("duty", [each.value for each in DUTIES])
def test_every_address_answers_every_duty_as_the_page_says(
    world: World, duty: str, without_pages: None
) -> None:
    client = signed_in(world, duty)
    client.raise_request_exception = False
    wrong, theirs = [], 0
    for route, rule in RULES.items():
        if rule.read == NOBODY or route in _APART or route.startswith(API):
            continue
        may_look, may_do = (
            Duty(duty) in duties_with(each or "-") for each in (rule.read, rule.write)
        )
        own = filled(route, world.own)
        looked = client.get(own)
        if looked.status_code not in _expected(route, rule, duty):
            wrong.append((own, "look", looked.status_code))
        wrong += [(own, "shows", each) for each in _foreign_names(looked)]
        if may_look and rule.write and not may_do and client.post(own).status_code != 403:
            wrong.append((own, "do", 0))
        for things in world.foreign:
            foreign = filled(route, things)
            if foreign == own or _is_nothing(foreign):
                continue
            theirs += 1
            if may_look:
                seen = client.get(foreign)
                if seen.status_code != (200 if route in _EMPTY else 404) or _foreign_names(seen):
                    wrong.append((foreign, "foreign look", seen.status_code))
            if may_do and client.post(foreign).status_code != 404:
                wrong.append((foreign, "foreign deed", 0))
    for things in world.foreign:
        gone = client.post("/property/switch", {"property": things["property_id"]})
        if gone.status_code != 403:
            wrong.append(("switch", "foreign", gone.status_code))
    assert wrong == []
    assert theirs > 80, "addresses with a number of another property"


def _is_nothing(address: str) -> bool:
    return bool({str(NOTHING), "none"} & {*re.split("[/.:]", address)})


#: Shown of some things only: a move that was made, a proposed file, a recharge that was taken back.
_OF_OTHERS = {
    "units/<id:unit_id>/hand-over", "approvals/<id:proposal_id>/file", SHOWN_WHEN_DONE,
    "audit/watches/new/<str:kind>", "property/keys/<id:key_id>/end",
}  # fmt: skip


def test_what_is_foreign_is_there_for_its_own_people(
    world: World, as_owner: Callable[..., Any], without_pages: None
) -> None:
    """Else the test above would be refused what nothing has: with a duty there, every number is one."""
    with as_owner(world.place):
        for duty, things in zip(("administrator", "auditor"), world.foreign, strict=True):
            world.users[duty] = laid(
                "app_user", email=f"{duty}@there", name="Gerda", is_active=True
            )
            laid(
                "duty_grant", user_id=world.users[duty], property_id=things["property_id"], duty=duty,
                organisation_id=things["organisation_id"],
            )  # fmt: skip
    missing = []
    for duty, things in zip(("administrator", "auditor"), world.foreign, strict=True):
        client = signed_in(world, duty)
        client.raise_request_exception = False
        for route, rule in RULES.items():
            there = filled(route, things)
            may = Duty(duty) in duties_with(rule.read) and not route.startswith(API)
            is_named = there != filled(route, {}) and not _is_nothing(there)
            if may and is_named and route not in _OF_OTHERS:
                # A row that was laid past the program may break its page; it is found.
                status = client.get(there).status_code
                if status in {403, 404}:
                    missing.append((there, status))
    assert not missing, missing


def _expected(route: str, rule: Rule, duty: str) -> set[int]:
    """Statuses of a look at what is one's own."""
    may_look = Duty(duty) in duties_with(rule.read)
    if route == SHOWN_WHEN_DONE and Duty(duty) not in duties_with(rule.write):
        return {403}
    if route == "" and not may_look:
        return {302} if Duty(duty) in HOMES else {403}
    # Some of a person's own are nothing but a deed.
    return (
        ({200, 302, 404, 409} | ({405} if rule.read == ANYBODY else set())) if may_look else {403}
    )


def _foreign_names(answer: Any) -> list[str]:
    if answer.status_code != 200 or answer.streaming:
        return []
    text = answer.content.decode()
    return [each for each in FOREIGN_NAMES if each in text]


# --- programs ---


SALE = json.dumps({"amount_micro": 10_000, "way": "cash"})


def asked(key: str, method: str, address: str) -> Any:
    """What a program with this key is answered; each sale is one of its own."""
    program = Client(
        headers={
            "host": "localhost",
            "authorization": f"Bearer {key}",
            "idempotency-key": new_key(),
        }
    )
    body = SALE if method == "POST" else ""
    return program.generic(method, address, body, content_type="application/json")


def test_every_address_of_programs_answers_every_key_as_the_page_says(world: World) -> None:
    """By each permission that a key can name alone, and by all of them; own things and others'."""
    wrong, cells = [], 0
    for duty in KEY_DUTIES:
        everything = permissions_of(duty)
        for named in (everything, *({each} for each in sorted(everything))):
            key = world.place.api_key(duty, named)
            for route, method, wanted in _asked_of_programs():
                is_allowed = bool(wanted) and wanted in named - FOR_PEOPLE
                expected = {200, 201} if is_allowed else {403 if wanted else 405}
                answer = asked(key, method, filled(route, world.own))
                cells += 1
                if answer.status_code not in expected:
                    wrong.append((duty, named, method, route, answer.status_code))
                if is_allowed and any(each in answer.content.decode() for each in FOREIGN_NAMES):
                    wrong.append((duty, named, method, route, 0))
                if is_allowed and "<" in route:
                    there = [asked(key, method, filled(route, each)) for each in world.foreign]
                    wrong += [
                        (duty, "foreign", method, route, 0)
                        for each in there
                        if each.status_code != 404
                    ]
    assert wrong == []
    assert cells > 200


def test_a_key_of_another_property_finds_nothing_here(world: World) -> None:
    for things in world.foreign:
        key = world.place.api_key(
            "operator", permissions_of(Duty.OPERATOR), property_id=things["property_id"]
        )
        for route, method, wanted in _asked_of_programs():
            if not wanted:
                continue
            answer = asked(key, method, filled(route, world.own))
            text = answer.content.decode()
            assert answer.status_code == (404 if "<" in route else 200), (route, method)
            assert "Fenwick" not in text and "N-305" not in text
            if "<" in route:
                assert asked(key, method, filled(route, things)).status_code in {200, 201, 422}, (
                    route
                )


def test_nobody_but_a_program_of_two_duties_is_let_in(world: World) -> None:
    for duty in DUTIES:
        person = signed_in(world, duty.value)
        for route, method, wanted in _asked_of_programs():
            answer = person.generic(method, filled(route, world.own), SALE, "application/json")
            assert answer.status_code == (401 if wanted else 405), (duty, route)
        if duty not in KEY_DUTIES:
            with pytest.raises(psycopg.errors.CheckViolation, match="key_of_a_program"):
                world.place.api_key(duty.value, ["accounts.read"])


def _asked_of_programs() -> Iterator[tuple[str, str, str]]:
    """Every address and method that takes a key, with what is asked for; nothing where there is no such method."""
    for route, rule in RULES.items():
        if route.startswith(API) and rule.read != NOBODY:
            yield from ((route, method, rule.wanted(method)) for method in ("GET", "POST"))


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
