"""Every page answers in both languages, under the strict policy, to those whose duty allows it."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from html.parser import HTMLParser
from typing import Any

import psycopg
import pytest
from django.db import connection

from fernmoor import NOW, Fernmoor

PAGES = (
    "/",
    "/accounts",
    "/accounts?q=fenwick&sort=time",
    "/accounts?state=cut",
    "/accounts/{N-305}",
    "/accounts/{N-404}",
    "/accounts/{N-801}",
    "/accounts/{S-403}?entries=100",
    "/accounts/{N-305}/recharge",
    "/accounts/{N-305}/recharge?amount=20",
    "/accounts/{N-404}/recharge?amount=50.00&way=online",
    "/recharges/902",
    "/supply",
    "/supply?show=open",
    "/supply?show=would_have",
    "/meters",
    "/meters?show=silent",
    "/tariffs",
    "/tariffs?sort=accounts&show=next",
    "/tariffs/R",
    "/tariffs/R?version=6",
    "/tariffs/new",
    "/tariffs/new?start=blank",
    "/tariffs/new?start=tariff:R",
    "/tariffs/new?start=example:cn-ladder-four-bands",
    "/tariffs/new?start=example:us-pge-e-tou-c",
    "/accounts/{N-305}/charges/100/usage/2026-11-04",
    "/money",
    "/money?days=30",
    "/messages",
    "/units",
    "/units?q=305&kind=flat&vacant=1",
    "/units/{unit N-305}",
    "/property",
    "/units/{unit N-305}/move/out",
    "/units/{unit N-305}/move/change",
    "/units/{unit N-305}/move/in",
    "/property/import",
    "/property/calendar",
    "/property/calendar?year=2027&day=2027-03-08",
    "/property/rules",
    "/property/rules/change",
    "/meters/fleet",
    "/meters/fleet?by=gateway&sort=seen&only=",
    "/meters/orders",
    "/meters/orders?show=failed&kind=read&q=305&sort=oldest&meter=1",
    "/meters/bulks",
    "/meters/bulks/new",
    "/meters/{meter N-305}",
    "/meters/held",
    "/meters/held?show=closed&q=305&sort=meter",
    "/meters/{meter N-305}/read",
    "/meters/{meter N-305}/correct",
    "/meters/{meter N-305}/exchange",
)


def address(place: Fernmoor, page: str) -> str:
    """The page with the ids of its units filled in."""

    def filled(match: re.Match[str]) -> str:
        kind, _, name = match[1].rpartition(" ")
        found = {"unit": place.units, "meter": place.meters}.get(kind, place.accounts)
        return str(found[name])

    return re.sub(r"{([^}]+)}", filled, page)


class _Inline(HTMLParser):
    """Finds what a strict policy would refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "style" or name.startswith("on") or "javascript:" in (value or ""):
                self.found.append(f"{tag} {name}={value}")
            if name in ("src", "href") and re.match(r"(https?:)?//", value or ""):
                self.found.append(f"{tag} loads {value}")
        self._script = tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.found.append(f"inline: {data[:40]}")

    def handle_endtag(self, tag: str) -> None:
        self._script = False


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_every_page_answers_under_the_policy(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], language: str
) -> None:
    client = sign_in(fernmoor, language=language)
    for page in PAGES:
        response = client.get(address(fernmoor, page))
        text = response.content.decode()
        assert response.status_code == 200, page
        assert "default-src 'none'" in response["Content-Security-Policy"]
        assert "unsafe" not in response["Content-Security-Policy"]
        assert f'<html lang="{"zh-Hans" if language != "en" else "en"}"' in text
        inline = _Inline()
        inline.feed(text)
        assert inline.found == [], page
        ids = re.findall(r'\bid="([^"]+)"', text)
        assert len(ids) == len(set(ids)), (
            page,
            [each for each in ids if ids.count(each) > 1],
        )


def test_chinese_pages_are_chinese(fernmoor: Fernmoor, sign_in: Callable[..., Any]) -> None:
    client = sign_in(fernmoor, language="zh-hans")
    text = client.get("/").content.decode()
    assert "楼层图" in text and "需要您处理" in text and "度" in text
    for english in ("Floor board", "Needs you", "Runs out", "kWh"):
        assert english not in text


def test_strangers_are_sent_to_the_sign_in(fernmoor: Fernmoor) -> None:
    from django.test import Client

    client = Client(headers={"host": "localhost"})
    for page in (
        "/",
        "/accounts",
        "/accounts.csv",
        "/live",
        "/recharges/1",
        "/tariffs",
        "/tariffs/new",
    ):
        response = client.get(page)
        assert response.status_code == 302 and response["Location"].startswith("/sign-in"), page


def test_an_auditor_reads_but_may_not_recharge(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client = sign_in(fernmoor, "auditor")
    account = client.get(address(fernmoor, "/accounts/{N-305}")).content.decode()
    assert '/recharge"' not in account
    refused = client.get(address(fernmoor, "/accounts/{N-305}/recharge"))
    assert refused.status_code == 403
    assert "That is not open to you" in refused.content.decode()


def test_the_account_page_shows_what_its_meter_holds(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    with psycopg.connect(fernmoor.dsn) as owner:
        owner.execute(
            """WITH m AS (SELECT a.meter_id AS id, a.property_id AS place, a.account_id AS account
                          FROM meter_assignment a WHERE a.account_id = %s LIMIT 1),
                    s AS (INSERT INTO instruction_state (meter_id, property_id, known_hash, balance_micro,
                              said_at) SELECT id, place, '\\x00', 17500000, now() FROM m)
               INSERT INTO meter_wallet (meter_id, property_id, account_id, since, seen_seq, total_micro,
                   credit_micro, told_micro)
               SELECT id, place, account, now(), 0, 23000000, 23000000, 20000000 FROM m""",
            [fernmoor.accounts["N-305"]],
        )
    try:
        page = sign_in(fernmoor).get(address(fernmoor, "/accounts/{N-305}")).content.decode()
        assert "Balance in the meter" in page and "17.50" in page
        assert "On its way to the meter" in page and "3.00" in page
    finally:
        with psycopg.connect(fernmoor.dsn) as owner:
            owner.execute("DELETE FROM meter_wallet; DELETE FROM instruction_state")


def test_another_propertys_account_does_not_exist(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    response = sign_in(fernmoor).get("/accounts/999999")
    assert response.status_code == 404
    assert re.search(r"Ref [0-9A-F]{4}", response.content.decode())


def test_a_part_is_only_the_part(fernmoor: Fernmoor, sign_in: Callable[..., Any]) -> None:
    part = sign_in(fernmoor).get("/today", headers={"HX-Request": "true"}).content.decode()
    assert part.lstrip().startswith('<div id="today">') and "<html" not in part


def test_new_lines_wait_on_an_open_account(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Callable[..., Any]
) -> None:
    client = sign_in(fernmoor)
    where = address(fernmoor, "/accounts/{N-305}")
    seen = re.search(r"seen=([a-z0-9-]+)", client.get(where).content.decode())
    assert seen is not None
    with as_owner(fernmoor):
        fernmoor.message(fernmoor.accounts["N-305"], "supply.cut_planned", NOW, 1)
    part = client.get(f"{where}?seen={seen[1]}", headers={"HX-Request": "true"}).content.decode()
    assert "1 new, show" in part
    assert "Warning before a cut" not in part.split('id="changes"')[1].split('id="orders"')[0]


def test_theme_and_language_are_kept(fernmoor: Fernmoor, sign_in: Callable[..., Any]) -> None:
    client = sign_in(fernmoor)
    response = client.post("/preferences", {"theme": "dark", "next": "/accounts"})
    assert response.status_code == 302 and response["Location"] == "/accounts"
    assert 'data-theme="dark"' in client.get("/").content.decode()
    away = client.post("/preferences", {"theme": "light", "next": "https://elsewhere.example/"})
    assert away["Location"] == "/"


def test_an_empty_property_says_what_would_be_here(
    database: str, sign_in: Callable[..., Any]
) -> None:
    place = Fernmoor(empty=True)
    client = sign_in(place)
    for page in ("/", "/accounts", "/supply", "/meters", "/tariffs", "/money", "/messages"):
        assert client.get(page).status_code == 200, page
    assert "Nothing needs you." in client.get("/").content.decode()


@pytest.mark.parametrize(
    ("language", "said"), [("en", "The meter&#x27;s clock is ahead"), ("zh-hans", "电表时钟偏快")]
)
def test_an_order_that_is_not_done_says_why(
    fernmoor: Fernmoor,
    sign_in: Callable[..., Any],
    as_owner: Callable[[Fernmoor], AbstractContextManager[None]],
    language: str,
    said: str,
) -> None:
    from prewatt.supply.models import SupplyOrder

    with as_owner(fernmoor):
        SupplyOrder.objects.filter(pk=fernmoor.waiting).update(failure="meter_clock_ahead")
    client = sign_in(fernmoor, language=language)
    for page in ("/supply?show=open", "/accounts/{S-106}"):
        assert client.get(address(fernmoor, page)).content.decode().count(said) == 1, page


def test_every_reason_that_an_order_can_have_has_its_sentence() -> None:
    from prewatt.core.orders import Refusal
    from prewatt.supply import orders
    from prewatt.web.ui.sentences import FAILURE

    told = {*Refusal, *orders.OVERDUE.values(), orders.NOT_AS_WANTED}
    assert told == FAILURE.keys()


def test_the_bar_leads_to_every_section_and_pages_of_one_stand_beside_each_other() -> None:
    from prewatt.access.models import Duty
    from prewatt.access.scope import Actor, may
    from prewatt.web.ui import navigation

    tabs = [page.tab for section in navigation.SECTIONS for page in section.pages]
    assert len(tabs) == len(set(tabs))
    operator = Actor("user:1", Duty.OPERATOR, (1,))
    for section in navigation.SECTIONS:
        for page in section.pages:
            within = sum(link.within for link in navigation.bar(page.tab, operator))
            assert within == may(operator, page.permission)
            shown = {link.address for link in navigation.beside(page.tab, operator)}
            if page.permission and not may(operator, page.permission):
                assert page.address not in shown


def test_a_person_goes_on_at_another_property_of_their_own_only(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Callable[..., Any]
) -> None:
    with as_owner(fernmoor):
        own, foreign = fernmoor.another("Second Court"), fernmoor.another("Elsewhere")
        fernmoor.grant("administrator", own, "operator")
    client = sign_in(fernmoor)
    menu = client.get("/").content.decode()
    assert "Second Court" in menu and "Elsewhere" not in menu
    assert client.post("/property/switch", {"property": foreign}).status_code == 403
    assert client.post("/property/switch", {"property": "9" * 30}).status_code == 403
    assert "<h1>Fernmoor Court</h1>" in client.get("/property").content.decode()
    assert client.post("/property/switch", {"property": own}).status_code == 302
    assert "<h1>Second Court</h1>" in client.get("/property").content.decode()
    assert client.get(address(fernmoor, "/units/{unit N-305}")).status_code == 404


def test_units_are_found_and_exported(fernmoor: Fernmoor, sign_in: Callable[..., Any]) -> None:
    client = sign_in(fernmoor, "operator")
    found = client.get("/units?q=fenwick").content.decode()
    assert "N-305" in found and "N-306" not in found
    lines = client.get("/units.csv?kind=flat&q=N-305").getvalue().decode("utf-8-sig").splitlines()
    assert lines[0].startswith("Unit,Building") and lines[1].startswith("N-305,")
    assert len(lines) == 2
    assert "No unit matches" in client.get("/units?q=zzz").content.decode()


def test_an_id_that_no_database_holds_is_no_address(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    for page in ("/units/", "/accounts/", "/recharges/"):
        assert sign_in(fernmoor).get(page + "9" * 30).status_code == 404


def test_today_shows_the_latest_proof_of_the_books_and_whether_it_holds(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Callable[..., Any]
) -> None:
    client = sign_in(fernmoor)
    assert "meter credit" not in client.get("/").content.decode(), "nothing was proved yet"
    for cash, said in (
        (6_354_592_390, "Cash = ledger = meter credit: €6,354.59. Proved 06:00, difference €0.00"),
        (6_355_592_390, "Cash €6,355.59, ledger €6,354.59, meter credit €6,354.59: €1.00 apart."),
    ):
        with as_owner(fernmoor), connection.cursor() as cursor:
            cursor.execute(
                """INSERT INTO books_proof (property_id, proved_at, cash_micro, ledger_micro,
                       meters_micro, made_by)
                   VALUES (%s, '2026-11-17 05:00Z', %s, 6354592390, 6354592390, 'system:proof')""",
                [fernmoor.property_id, cash],
            )
        assert said in client.get("/").content.decode()
    chinese = sign_in(fernmoor, language="zh-hans").get("/").content.decode()
    assert "收款 €6,355.59，账本 €6,354.59" in chinese
