"""What only a browser can show: live updates in place, keys, no accessibility fault, no console error.

Needs Chromium (``apt-get install chromium``); without it these tests are skipped, and say so.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from fernmoor import NOW, PASSWORD, Fernmoor, web_login

CHROMIUM = os.environ.get("PREWATT_CHROMIUM") or shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="NO BROWSER: chromium is missing, live pages are not tested here"
    ),
]
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
WAIT_MS = 15_000


@pytest.fixture
def server(fernmoor: Fernmoor) -> Iterator[str]:
    """The real web process on a free port of loopback."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    offset_us = int((NOW - datetime.now(UTC)).total_seconds() * 1_000_000)
    environment = os.environ | {
        "PREWATT_DSN": web_login(fernmoor.dsn),
        "PREWATT_SECRET_KEY": secrets.token_urlsafe(48),
        "PREWATT_CLOCK_OFFSET_US": str(offset_us),
        "PREWATT_DEMO": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "prewatt", "web", "--port", str(port)], env=environment
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"{address}/healthz", timeout=1)
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, "no web process"
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for all tests here.

    Playwright keeps an event loop in this thread, which Django takes for asynchronous code; the
    tests themselves are not, so its guard is lifted while the browser is open.
    """
    from playwright.sync_api import sync_playwright

    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield launched
        launched.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def page(browser: Any, server: str) -> Iterator[Any]:
    """A signed-in page at 1280 px that fails the test on any error of its console."""
    context = browser.new_context(
        base_url=server, locale="en-GB", viewport={"width": 1280, "height": 900}
    )
    opened = context.new_page()
    faults: list[str] = []
    opened.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.goto("/sign-in")
    opened.fill("#email", "administrator@fernmoor.example")
    opened.fill("#password", PASSWORD)
    opened.click("button.main")
    opened.wait_for_selector("#board")
    yield opened
    context.close()
    assert faults == []


def change(place: Fernmoor, statement: str, *params: object) -> None:
    """Change a row as another process would, and ring the bell in the same transaction."""
    with psycopg.connect(place.dsn) as connection:
        connection.execute(statement, params)
        connection.execute("SELECT pg_notify('changed', %s)", [str(place.property_id)])


def test_a_cut_and_a_reconnection_appear_by_themselves(page: Any, fernmoor: Fernmoor) -> None:
    meter, account = fernmoor.meters["N-202"], fernmoor.accounts["N-202"]
    window = page.locator(f'a.win[href="/accounts/{account}"]')
    assert "is-on" in window.get_attribute("class")
    page.evaluate("document.querySelector('h1').markOfTest = 'same page'")
    page.wait_for_timeout(1_000)
    for relay, state in ((2, "is-cut"), (1, "is-on")):
        change(fernmoor, "UPDATE meter_link SET relay = %s WHERE meter_id = %s", relay, meter)
        page.wait_for_selector(f'a.win.{state}[href="/accounts/{account}"]', timeout=WAIT_MS)
    # Morphed in place: the heading is still the very same element.
    assert page.evaluate("document.querySelector('h1').markOfTest") == "same page"


def test_a_recharge_waits_for_the_relay_and_then_says_done(page: Any, fernmoor: Fernmoor) -> None:
    page.goto("/recharges/902")
    page.wait_for_timeout(800)
    event, account, meter = 902, fernmoor.accounts["S-106"], fernmoor.meters["S-106"]
    change(
        fernmoor,
        """UPDATE supply_order SET decided_at = (SELECT accepted_at FROM payment WHERE event_id = %s)
           WHERE account_id = %s""",
        event,
        account,
    )
    page.wait_for_selector("text=paid, waiting for the meter", timeout=WAIT_MS)
    assert page.locator(".wait").count() == 1
    change(
        fernmoor,
        "UPDATE supply_order SET state = 4, finished_at = sent_at WHERE meter_id = %s",
        meter,
    )
    page.wait_for_selector("text=The relay was read back: closed.", timeout=WAIT_MS)
    assert page.locator(".wait").count() == 0


def test_a_row_under_the_pointer_does_not_move(page: Any, fernmoor: Fernmoor) -> None:
    rows = "#endings tbody tr"
    before = page.locator(rows).evaluate_all("rows => rows.map(row => row.dataset.row)")
    page.hover(f"{rows}:nth-child(2)")
    page.wait_for_timeout(1_000)
    change(
        fernmoor,
        "UPDATE account_state SET posted = posted + 90000000 WHERE account_id = %s",
        int(before[0]),
    )
    page.wait_for_selector("#endings[data-waiting]", timeout=WAIT_MS, state="attached")
    assert page.locator(rows).evaluate_all("rows => rows.map(row => row.dataset.row)") == before
    page.hover("h1")
    page.wait_for_function(
        "first => document.querySelector('#endings tbody tr').dataset.row !== first",
        arg=before[0],
        timeout=WAIT_MS,
    )


def test_keys_find_and_walk_the_board(page: Any) -> None:
    for _ in range(20):
        # A key that comes before the page's script is nobody's.
        page.keyboard.press("/")
        if page.evaluate("document.activeElement.id") == "q":
            break
        page.wait_for_timeout(100)
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.press("Escape")
    page.locator("a.win", has_text="504").first.focus()
    for key, unit in (
        ("ArrowRight", "505"),
        ("ArrowDown", "405"),
        ("ArrowLeft", "404"),
        ("ArrowUp", "504"),
    ):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.textContent").startswith(unit), key
    page.keyboard.press("Enter")
    page.wait_for_selector("#account")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_has_an_accessibility_fault(page: Any, fernmoor: Fernmoor, theme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(color_scheme=theme)
    account = fernmoor.accounts["N-404"]
    pages = (
        *("/", "/accounts?sort=time", f"/accounts/{fernmoor.accounts['N-305']}"),
        *(f"/accounts/{account}/recharge", f"/accounts/{account}/recharge?amount=20"),
        *("/recharges/902", "/supply", "/meters", "/money?days=30", "/messages"),
        *("/alerts", "/alerts?show=closed", f"/alerts/{fernmoor.alert()}"),
    )
    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
    for address in pages:
        page.goto(address)
        found = Axe().run(page, options=options)
        assert found.violations_count == 0, f"{address} {theme}\n{found.generate_report()}"
        for width in (390, 1280):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (address, width)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_of_the_estate_has_an_accessibility_fault(
    page: Any, fernmoor: Fernmoor, theme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(color_scheme=theme)
    unit, meter = fernmoor.units["N-305"], fernmoor.meters["N-305"]
    pages = (
        *(
            "/units?q=30",
            f"/units/{unit}",
            "/property",
            "/property/calendar?year=2026&day=2026-12-25",
        ),
        *(f"/units/{unit}/move/change", f"/units/{unit}/move/out", "/meters/held"),
        *(f"/meters/{meter}/read", f"/meters/{meter}/held", f"/meters/{meter}/exchange"),
    )
    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
    for address in pages:
        page.goto(address)
        found = Axe().run(page, options=options)
        assert found.violations_count == 0, f"{address} {theme}\n{found.generate_report()}"


def test_a_debt_is_agreed_on_by_keys_alone_and_its_pages_are_clean(
    page: Any, fernmoor: Fernmoor
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    with psycopg.connect(fernmoor.dsn) as connection:
        connection.execute(
            "UPDATE account_state SET posted = available, accrued_energy = 0 WHERE account_id = %s",
            [fernmoor.accounts["N-305"]],
        )
    account = fernmoor.accounts["N-305"]
    page.goto(f"/accounts/{account}/debts/new")
    page.focus("#f-amount")
    page.keyboard.type("12.50")
    page.keyboard.press("Tab")
    page.keyboard.type("Key replaced")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Debt D-…, €12.50")
    page.focus("button[value=confirm]")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Orla Fenwick owes €12.50 of D-1")
    debt = page.url.partition("?")[0]
    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
    for address in (
        debt, "/debts", "/refunds", "/lets", "/lets/new", "/recharges/400/take-back",
        f"/accounts/{account}/terms", f"/accounts/{account}/correct-tariff",
        f"/accounts/{account}/debts/new", "/tariffs/announced", "/tariffs/rules",
        "/tariffs/new?start=blank",
    ):  # fmt: skip
        page.goto(address)
        found = Axe().run(page, options=options)
        assert found.violations_count == 0, f"{address}\n{found.generate_report()}"
        for width in (390, 1280):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (address, width)


def test_a_tenant_is_changed_with_the_keyboard_alone(page: Any, fernmoor: Fernmoor) -> None:
    from axe_playwright_python.sync_playwright import Axe

    account = fernmoor.accounts["N-305"]
    change(
        fernmoor,
        """UPDATE account_state SET posted = available, accrued_energy = 0,
               posted_interval_no = interval_no WHERE account_id = %s""",
        account,
    )
    page.goto(f"/units/{fernmoor.units['N-305']}")
    page.focus("text=Change the tenant")
    page.keyboard.press("Enter")
    page.wait_for_selector("#f-name")
    # Where the meter is heard its own register is offered; what is not needed is not shown.
    assert page.is_checked("[name=how][value=meter]") and not page.is_visible("#f-at")
    page.focus("[name=how][value=meter]")
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#f-at")
    page.keyboard.press("ArrowLeft")
    page.focus("#f-name")
    page.keyboard.type("Ben Okafor")
    page.focus("#f-amount")
    page.keyboard.type("25")
    page.focus("button[value=look]")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Hand N-305 over from Orla Fenwick to Ben Okafor?")
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]})
    assert found.violations_count == 0, found.generate_report()
    assert "€5.96" in page.inner_text("main") and "+€25.00" in page.inner_text("main")
    # Back to the form with what was written, and on again.
    page.click("button[value=edit]")
    assert page.input_value("#f-name") == "Ben Okafor" and page.is_checked("#f-refund")
    page.click("button[value=look]")
    page.focus("button[value=confirm]")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=N-305 changed hands on")
    assert "Ben Okafor came" in page.inner_text("main")
    page.goto(f"/accounts/{account}")
    page.wait_for_selector("text=Closed on")
    assert page.locator(f'a[href="/accounts/{account}/recharge"]').count() == 0


def test_adding_a_time_to_a_plan_adds_one_row_and_keeps_its_buttons(page: Any) -> None:
    page.goto("/tariffs/new?start=blank")
    page.click("text=Add a band")
    add = page.locator("#f-schedule button", has_text="Add a time")
    add.wait_for()
    for times in (1, 2):
        add.click()
        page.wait_for_function(
            "n => document.querySelectorAll('#f-schedule .periods input.input').length === n",
            arg=times,
        )
    # The button under the focus is not taken for that of the new row.
    assert add.count() == 1
    assert page.locator("#f-schedule .icon-btn").all_inner_texts() == ["×", "×"]


def test_a_plan_that_nobody_wrote_yet_blames_no_field(page: Any) -> None:
    page.goto("/tariffs/new?start=blank")
    assert page.locator("[aria-invalid=true]").count() == 0
    page.fill("#f-bands-0-prices-0", "dear")
    page.wait_for_selector("#f-bands-0-prices-0[aria-invalid=true]")
