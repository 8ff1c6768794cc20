"""The API: what programs get, what they are told when nothing was done, and nothing that is not documented."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schemathesis
from django.core.wsgi import get_wsgi_application
from django.test import Client
from hypothesis import HealthCheck, given, settings

from cases import cases
from fernmoor import NOW, Fernmoor
from prewatt.access.models import Duty
from prewatt.api_keys.models import DUTIES
from prewatt.api_keys.operations import new_key, permissions_of
from prewatt.core.vocabulary import BoardState, RelayState
from prewatt.web.api.app import api
from prewatt.web.rules import API, RULES

ROOT = "/api/v1/"
DOCUMENT = api.get_openapi_schema(path_prefix=ROOT)
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = {
    operation.ok().definition.raw["operationId"]: operation.ok()
    for operation in SCHEMA.get_all_operations()
}
READING = frozenset({"accounts.read"})
SELLING = READING | {"vending.recharge"}


@pytest.fixture
def ask(fernmoor: Fernmoor) -> Callable[..., Any]:
    """Ask the API with a key of a duty: ``ask("operator", "GET", "property")``."""

    def asked(duty: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
        key = fernmoor.api_key(duty, SELLING if duty == "operator" else READING)
        return Client(
            headers={"host": "localhost", "authorization": f"Bearer {key}", **headers}
        ).generic(method, ROOT + path, data=body or "", content_type="application/json")

    return asked


def test_a_program_reads_what_the_console_shows(
    fernmoor: Fernmoor, ask: Callable[..., Any]
) -> None:
    account_id = fernmoor.accounts["N-404"]
    fernmoor.alert()
    assert ask("auditor", "GET", "property").json() | {"accounts": 0} == {
        "property_id": fernmoor.property_id, "code": "FC", "name": "Fernmoor Court", "currency": "EUR",
        "time_zone": "Europe/Berlin", "language": "en", "accounts": 0,
    }  # fmt: skip
    cut = ask("auditor", "GET", "accounts?state=cut&sort=balance&limit=1").json()
    assert (cut["total"], cut["rows"][0]["account_id"]) == (2, account_id)
    after = ask(
        "auditor", "GET", f"accounts?state=cut&sort=balance&limit=1&after={cut['next']}"
    ).json()
    assert [row["unit"] for row in after["rows"]] == ["S-602"]
    assert after["next"] == ""
    account = ask("auditor", "GET", f"accounts/{account_id}").json()
    assert (account["balance_micro"], account["relay"], account["state"]) == (
        -5_100_000,
        "open",
        "cut",
    )
    for path in ("units", "meters?show=silent", "recharges?days=30", "alerts", "tariffs"):
        listed = ask("auditor", "GET", path).json()
        assert listed["total"] >= len(listed["rows"]) > 0, path


def test_a_recharge_is_sold_once_for_each_key(
    fernmoor: Fernmoor, ask: Callable[..., Any], as_owner: Callable[..., Any]
) -> None:
    with as_owner(fernmoor):
        fernmoor.settle("N-404")
    path = f"accounts/{fernmoor.accounts['N-404']}/recharges"
    body = '{"amount_micro": 50000000, "way": "online", "reference": "PSP-1"}'
    sold = ask("operator", "POST", path, body, **{"idempotency-key": "a"})
    assert sold.status_code == 201, sold.content
    assert sold.json()["balance_micro"] == 44_900_000
    again = ask("operator", "POST", path, body, **{"idempotency-key": "a"})
    # The key that is shown is the caller: two keys of one property do not share their numbers.
    assert again.status_code == 201
    key = fernmoor.api_key("operator", SELLING)
    client = Client(headers={"host": "localhost", "authorization": f"Bearer {key}"})

    def sell(amount: int) -> Any:
        return client.post(
            ROOT + path, {"amount_micro": amount, "way": "cash"}, content_type="application/json",
            headers={"idempotency-key": "b"},
        )  # fmt: skip

    first, second, other = sell(10_000_000), sell(10_000_000), sell(20_000_000)
    assert (first.status_code, second.status_code, other.status_code) == (201, 200, 409)
    assert second.json() == first.json() | {"repeated": True}
    assert other.json()["code"] == "vending.recharge.key_reused"
    state = client.get(ROOT + f"recharges/{first.json()['recharge_id']}").json()
    assert state["amount_micro"] == 10_000_000


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 200),
        ({"ended_at": NOW}, 401),
        ({"expires_at": NOW}, 401),
        ({"secret_sha256": b"\1" * 32}, 401),
        ({"permissions": ["mdm.read_manually"]}, 403),
    ],
)
def test_a_key_that_does_not_hold_reads_nothing(
    fernmoor: Fernmoor, change: dict[str, Any], status: int
) -> None:
    key = fernmoor.api_key(**{"duty": "operator", "permissions": sorted(READING)} | change)
    answer = Client(headers={"host": "localhost", "authorization": f"Bearer {key}"}).get(
        ROOT + "property"
    )
    assert answer.status_code == status
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_key_is_no_session_and_a_session_no_key(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    assert sign_in(fernmoor).get(ROOT + "property").status_code == 401
    key = fernmoor.api_key("operator", READING)
    with_key = Client(headers={"host": "localhost", "authorization": f"Bearer {key}"})
    assert with_key.get("/accounts").status_code == 302
    assert Client(headers={"host": "localhost"}).get(ROOT + "openapi.json").status_code == 200


def test_of_its_duty_a_key_has_what_it_names_and_no_other_property(
    fernmoor: Fernmoor, ask: Callable[..., Any], as_owner: Callable[..., Any]
) -> None:
    path = f"accounts/{fernmoor.accounts['N-404']}/recharges"
    body = '{"amount_micro": 50000000, "way": "online"}'
    assert ask("auditor", "POST", path, body, **{"idempotency-key": "a"}).status_code == 403
    with as_owner(fernmoor):
        elsewhere = fernmoor.another("Elsewhere")
    key = fernmoor.api_key("operator", SELLING, property_id=elsewhere)
    client = Client(headers={"host": "localhost", "authorization": f"Bearer {key}"})
    assert client.get(ROOT + f"accounts/{fernmoor.accounts['N-404']}").status_code == 404
    sold = client.post(
        ROOT + path, body, content_type="application/json", headers={"idempotency-key": "a"}
    )
    assert sold.status_code == 404
    assert client.get(ROOT + "accounts").json()["rows"] == []


def test_the_document_says_the_words_of_the_console() -> None:
    shapes = DOCUMENT["components"]["schemas"]
    assert shapes["Account"]["properties"]["state"]["enum"] == [each.word for each in BoardState]
    assert shapes["Meter"]["properties"]["relay"]["enum"] == [each.word for each in RelayState]
    for name, shape in shapes.items():
        kinds = [kind for each in shape.get("properties", {}).values() for kind in _kinds(each)]
        assert "number" not in kinds, f"{name} has a float"


def _kinds(shape: dict[str, Any]) -> Iterator[str]:
    yield shape.get("type", "")
    for each in shape.get("anyOf", ()):
        yield from _kinds(each)


#: What keys there are: all that each duty can have, what sells without looking, and none of ours.
KEYS: dict[str, tuple[Duty, frozenset[str]]] = {
    **{duty.value: (duty, permissions_of(duty)) for duty in DUTIES},
    "till": (Duty.OPERATOR, frozenset({"vending.recharge"})),
    "meters alone": (Duty.AUDITOR, frozenset({"meters.read"})),
    "nobody": (Duty.OPERATOR, frozenset()),
}
UNKNOWN = 999_999


def test_what_no_view_answers_is_said_in_the_same_shape(fernmoor: Fernmoor) -> None:
    """A body beyond all bounds is no fault of ours, a NUL and an address that is none are no page."""
    key = fernmoor.api_key("operator", SELLING)
    program = Client(headers={"host": "localhost", "authorization": f"Bearer {key}"})
    sale = f"accounts/{fernmoor.accounts['N-404']}/recharges"
    for method, path, body, said in (
        ("GET", "nowhere", "", (404, "api.unknown")),
        ("GET", "units?find=%00", "", (400, "api.malformed")),
        ("POST", sale, "x" * 9_000_000, (400, "api.malformed")),
    ):
        answer = program.generic(
            method, ROOT + path, body, "application/json", headers={"idempotency-key": "a"}
        )
        assert (answer.status_code, answer.json()["code"]) == said, path


def test_every_address_is_documented_and_no_other() -> None:
    documented = {
        path.removeprefix("/").translate({123: "<", 125: ">"}) for path in DOCUMENT["paths"]
    }
    assert documented == {each for each, rule in RULES.items() if each.startswith(API)} - {
        API,
        f"{API}openapi.json",
    }
    for path, methods in DOCUMENT["paths"].items():
        rule = RULES[path.removeprefix("/").translate({123: "<", 125: ">"})]
        assert set(methods) == {
            name for name, word in (("get", rule.read), ("post", rule.write)) if word
        }


@pytest.mark.parametrize("who", KEYS)
def test_no_request_breaks_it_and_no_answer_is_undocumented(
    fernmoor: Fernmoor, who: str, as_owner: Callable[..., Any]
) -> None:
    """Each operation as it should be, malformed and of nothing that is here; then whatever its document allows."""
    with as_owner(fernmoor):
        fernmoor.settle("N-404")
    duty, named = KEYS[who]
    key = new_key() if who == "nobody" else fernmoor.api_key(duty, named)
    application = get_wsgi_application()
    recharge_id = _sold(fernmoor)

    def answered(case: schemathesis.Case) -> int:
        answer = case.call(app=application, headers={"Authorization": f"Bearer {key}"})
        case.validate_response(answer, excluded_checks=_NOT_ASKED)
        return int(answer.status_code)

    for name, operation in OPERATIONS.items():
        wanted = "vending.recharge" if name == "recharge_account" else "accounts.read"
        refused = 401 if who == "nobody" else 0 if wanted in named else 403
        for case, expected in _tried(operation, fernmoor.accounts["N-404"], recharge_id):
            assert answered(case) in ({refused} if refused else expected), (who, name)

        @settings(
            max_examples=cases(8), deadline=None, database=None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy())
        def holds(case: schemathesis.Case) -> None:
            if "account_id" in case.path_parameters:
                case.path_parameters["account_id"] = fernmoor.accounts["N-404"]
            status = answered(case)
            # 422 comes of what is read before anybody is asked for: a path that holds no number.
            assert not refused or status in {refused, 422}  # noqa: B023 - called before the next round

        holds()


def _tried(
    operation: Any, account_id: int, recharge_id: int
) -> Iterator[tuple[schemathesis.Case, set[int]]]:
    """An operation as it should be, of what is not here, and malformed, with what is answered to who may."""
    is_sale = operation.method == "post"

    def case(number: int | None = None, **given: Any) -> schemathesis.Case:
        ids = {"account_id": account_id, "recharge_id": recharge_id}
        names = [each.name for each in operation.path_parameters]
        path = {name: ids[name] if number is None else number for name in names}
        headers = {"Idempotency-Key": secrets.token_hex(8)} if is_sale else {}
        body = {"body": {"amount_micro": 10_000, "way": "cash", "reference": ""}} if is_sale else {}
        made: schemathesis.Case = operation.Case(
            path_parameters=path, headers=headers, media_type="application/json" if is_sale else None, **body | given
        )  # fmt: skip
        return made

    yield case(), {201} if is_sale else {200}
    if operation.path_parameters:
        yield case(UNKNOWN), {404}
    if is_sale:
        yield case(body={"amount_micro": 1, "way": "cash"}), {422}
    elif operation.query:
        yield case(query={"limit": "many"}), {200, 422}


def _sold(place: Fernmoor) -> int:
    """A recharge that stands, of the program of somebody else."""
    key = place.api_key("operator", SELLING)
    answer = Client(headers={"host": "localhost", "authorization": f"Bearer {key}"}).post(
        f"{ROOT}accounts/{place.accounts['N-404']}/recharges", {"amount_micro": 10_000, "way": "cash"},
        content_type="application/json", headers={"idempotency-key": "sold"},
    )  # fmt: skip
    return int(answer.json()["recharge_id"])


#: A printable text is more than a pattern of JSON Schema can say, and who asks is asserted above.
_NOT_ASKED = [
    schemathesis.checks.positive_data_acceptance,
    schemathesis.checks.ignored_auth,
    schemathesis.checks.use_after_free,
]
