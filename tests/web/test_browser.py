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
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from axe_playwright_python.base import AXE_SCRIPT, AxeResults
from cryptography.fernet import Fernet
from django.conf import settings
from django.test import Client

from cases import some_pages
from databases import TestDatabases
from fernmoor import NOW, PASSWORD, Fernmoor, lent, use_database, web_login
from prewatt.access.models import User

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
    "--renderer-process-limit=1",
)
WAIT_MS = 15_000


#: The rules of axe that every page keeps; what it found in order is counted there and not brought here.
RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
    "resultTypes": ["violations"],
}
#: Those of them that look at colours, which are all that differs between the themes.
RULES_OF_COLOURS = """rules => ({
    ...rules,
    runOnly: axe.getRules(rules.runOnly)
        .filter(rule => rule.tags.includes("cat.color")).map(rule => rule.ruleId),
})"""
WIDTHS = (390, 1280)


#: What a phone cannot show: the page or a table that scrolls sideways, an element beyond the edge, a
#: cell whose text is cut off. Bars of links and a chart that is wider than a phone scroll by themselves.
CUT_OFF = """() => {
  const wide = document.documentElement.clientWidth, found = [];
  const scrolls = document.documentElement.scrollWidth;
  if (scrolls > wide) found.push(`the page scrolls to ${scrolls}`);
  document.querySelectorAll('main details').forEach(each => { each.open = true; });
  for (const each of document.querySelectorAll('main *')) {
    if (each.closest('svg, .sr, .chart-wide, .json') || !each.checkVisibility()) continue;
    const box = each.getBoundingClientRect(), style = getComputedStyle(each);
    const name = `${each.tagName}.${each.className} ${each.textContent.trim().slice(0, 40)}`;
    if (box.width && (box.right > wide + 1 || box.left < -1)) found.push(`beyond the edge: ${name}`);
    const clips = style.overflowX !== 'visible' && !['INPUT', 'SELECT', 'TEXTAREA'].includes(each.tagName);
    if (clips && each.scrollWidth > each.clientWidth + 1) found.push(`cut off: ${name}`);
  }
  return found.slice(0, 5);
}"""


@contextmanager
def serving(place: Fernmoor, *, at: datetime = NOW, **more: str) -> Iterator[str]:
    """The real web process on a free port of loopback, for the length of the block; it is ``at`` there."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    offset_us = int((at - datetime.now(UTC)).total_seconds() * 1_000_000)
    environment = os.environ | {
        "PREWATT_DSN": web_login(place.dsn),
        "PREWATT_SECRET_KEY": secrets.token_urlsafe(48),
        "PREWATT_CLOCK_OFFSET_US": str(offset_us),
        "PREWATT_DEMO": "1",
        "PREWATT_FACTOR_KEYS": Fernet.generate_key().decode("ascii"),
        **more,
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


@pytest.fixture(scope="module")
def place(laid_out: tuple[TestDatabases, Fernmoor]) -> Iterator[Fernmoor]:
    """The property for all tests here; each changes nothing which another would miss.

    Those that look at pages come first, so that they see it as it was laid out.
    """
    with lent(laid_out) as standing:
        yield standing


@pytest.fixture(scope="module")
def signed_in(browser: Any, place: Fernmoor) -> Iterator[tuple[Any, Any]]:
    """A page of the web over `place`, and the cookies of somebody who has signed in there.

    Its host has a name, since a passkey belongs to one.
    """
    with (
        serving(place, PREWATT_SECRET_KEY=settings.SECRET_KEY) as address,
        opened(browser, address.replace("127.0.0.1", "localhost")) as page,
    ):
        sign_in(page)
        yield page, page.context.cookies()


@pytest.fixture
def page(signed_in: tuple[Any, Any]) -> Iterator[Any]:
    """The page of somebody who is signed in at `place`; it shows nothing yet.

    It is one for all tests, as it was when it opened: another one costs Chromium a second.
    """
    page, cookies = signed_in
    page.context.clear_cookies()
    page.context.add_cookies(cookies)
    page.emulate_media(color_scheme="light", reduced_motion="no-preference")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.mouse.move(0, 0)
    with without_faults(page):
        yield page
        page.goto("about:blank")


@contextmanager
def opened(browser: Any, address: str, *, told: Sequence[str] = ()) -> Iterator[Any]:
    """A page at 1280 px that fails the test on any error of its console, but what it is ``told``."""
    context = browser.new_context(
        base_url=address,
        locale="en-GB",
        viewport={"width": 1280, "height": 900},
    )
    page = context.new_page()
    with without_faults(page, told=told):
        try:
            yield page
        finally:
            context.close()


@contextmanager
def without_faults(page: Any, *, told: Sequence[str] = ()) -> Iterator[None]:
    """Fail the test on any error of the page's console within the block, but what it is ``told``."""
    faults: list[str] = []

    def heard(said: Any) -> None:
        if said.type == "error":
            faults.append(said.text)

    def broken(error: Any) -> None:
        faults.append(str(error))

    page.on("console", heard)
    page.on("pageerror", broken)
    yield
    page.remove_listener("console", heard)
    page.remove_listener("pageerror", broken)
    assert [each for each in faults if not any(known in each for known in told)] == []


def sign_in(page: Any) -> None:
    page.goto("/sign-in")
    page.fill("#email", "administrator@fernmoor.example")
    page.fill("#password", PASSWORD)
    page.click("button.main")
    page.wait_for_selector("#board")


def assert_accessible(
    page: Any, *, themes: Sequence[str] = ("light", "dark"), widths: Sequence[int] = ()
) -> None:
    """Hold the page that is shown to axe's rules in the first theme and to those of colours in the
    others, and look in each that it fits each width.

    At the least of them nothing is cut off either.

    Nothing moves meanwhile: colours half-way from one theme to the other would be neither's.
    """
    page.evaluate(AXE_SCRIPT)
    rules = RULES
    for theme in themes:
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        found = AxeResults(page.evaluate("rules => axe.run(rules)", rules))
        assert found.violations_count == 0, f"{page.url} {theme}\n{found.generate_report()}"
        for width in widths:
            page.set_viewport_size({"width": width, "height": 900})
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, (page.url, theme, width)
        rules = page.evaluate(RULES_OF_COLOURS, RULES)
        assert "color-contrast" in rules["runOnly"]
    if widths:
        page.set_viewport_size({"width": min(widths), "height": 900})
        assert page.evaluate(CUT_OFF) == [], page.url


def becomes(page: Any, duty: str, place: Fernmoor) -> None:
    """Make the page that of the place's person with a duty, who comes to be there if need be.

    What signing in looks like is another test's; here it is a session as that leaves it.
    """
    use_database(place.dsn)
    if duty not in place.users:
        place.users[duty] = place.another_user(duty, duty.title(), duty)
    client = Client()
    client.force_login(User.objects.get(pk=place.users[duty]))
    session = client.session
    session["proved"] = "code"
    session.save()
    use_database(web_login(place.dsn))
    name = settings.SESSION_COOKIE_NAME
    where = {"url": page.evaluate("location.origin")}
    page.context.add_cookies([{"name": name, "value": client.cookies[name].value, **where}])


#: The pages of the walls, each with the duty that looks at it.
WALLS = (
    *("administrator /me", "administrator /me/lost", "administrator /me/password"),
    *("administrator /people", "administrator /people/invite", "administrator /second-factor"),
    *("administrator /people/{operator}/suspend", "administrator /people/{operator}/leave"),
    *("administrator /people/{operator}/duty", "administrator /property/brake"),
    *("administrator /people/groups", "administrator /people/groups/new"),
    *("administrator /accounts/{account}/sign-in", "operator /accounts/{account}/sign-in"),
    *("administrator /property/keys", "administrator /property/keys/new"),
    *("administrator /approvals", "administrator /approvals?show=all", "administrator /approvals/limits"),
    *("administrator /approvals/limits/vending.refund", "administrator /accounts/{account}/protection"),
    *("administrator /accounts/{account}/by-hand", "auditor /audit", "auditor /audit?q=recharge"),
    *("auditor /audit/of/account:{account}", "auditor /audit/people", "auditor /audit/people/{operator}"),
    *("auditor /audit/findings", "auditor /audit/watches", "owner /figures", "installer /work"),
    *("installer /work/{meter}", "installer /work?q=nothing", "installer /work/{meter}/exchange"),
    *("installer /work/new", "installer /work/fitted", "administrator /work/fitted"),
    *("installer /meters/concentrators", "installer /meters/concentrators/new"),
    *("administrator /meters/certificates", "administrator /meters/certificates/44102001/revoke"),
    *("installer /meters/certificates", "installer /meters/certificates/44102001/code"),
)  # fmt: skip


def change(place: Fernmoor, statement: str, *params: object) -> None:
    """Change a row as another process would, and ring the bell in the same transaction."""
    with psycopg.connect(place.dsn) as connection:
        connection.execute(statement, params)
        connection.execute("SELECT pg_notify('changed', %s)", [str(place.property_id)])


def test_no_page_has_an_accessibility_fault(page: Any, place: Fernmoor) -> None:
    account = place.accounts["N-404"]
    pages = (
        *("/", "/accounts?sort=time", f"/accounts/{place.accounts['N-305']}"),
        f"/accounts/{place.accounts['N-305']}/charges/100/usage/2026-11-04",
        *(f"/accounts/{account}/recharge", f"/accounts/{account}/recharge?amount=20"),
        *("/recharges/902", "/supply", "/meters", "/money?days=30", "/messages"),
        *("/alerts", "/alerts?show=closed", f"/alerts/{place.alert()}"),
    )
    for address in some_pages(pages):
        page.goto(address)
        assert_accessible(page, widths=WIDTHS)
    ids = {"operator": place.users["operator"], "account": account, "meter": place.meters["N-404"]}
    for each in some_pages(WALLS):
        duty, _, address = each.partition(" ")
        becomes(page, duty, place)
        assert page.goto(address.format(**ids)).status == 200, each
        assert_accessible(page, widths=WIDTHS)


def test_no_page_of_the_estate_has_an_accessibility_fault(page: Any, place: Fernmoor) -> None:
    unit, meter = place.units["N-305"], place.meters["N-305"]
    pages = (
        *(
            "/units?q=30",
            f"/units/{unit}",
            "/property",
            "/property/calendar?year=2026&day=2026-12-25",
            "/property/rules",
            "/property/rules/change",
        ),
        *(f"/units/{unit}/move/change", f"/units/{unit}/move/out", "/meters/held"),
        *(f"/meters/{meter}/read", f"/meters/{meter}/held", f"/meters/{meter}/exchange"),
    )
    for address in some_pages(pages):
        page.goto(address)
        assert_accessible(page, widths=WIDTHS)


def test_a_cut_and_a_reconnection_appear_by_themselves(page: Any, place: Fernmoor) -> None:
    page.goto("/")
    meter, account = place.meters["N-202"], place.accounts["N-202"]
    window = page.locator(f'a.win[href="/accounts/{account}"]')
    assert "is-on" in window.get_attribute("class")
    page.evaluate("document.querySelector('h1').markOfTest = 'same page'")
    page.wait_for_timeout(1_000)
    for relay, state in ((2, "is-cut"), (1, "is-on")):
        change(place, "UPDATE meter_link SET relay = %s WHERE meter_id = %s", relay, meter)
        page.wait_for_selector(f'a.win.{state}[href="/accounts/{account}"]', timeout=WAIT_MS)
    # Morphed in place: the heading is still the very same element.
    assert page.evaluate("document.querySelector('h1').markOfTest") == "same page"


def test_a_recharge_waits_for_the_relay_and_then_says_done(page: Any, place: Fernmoor) -> None:
    page.goto("/recharges/902")
    page.wait_for_timeout(800)
    event, account, meter = 902, place.accounts["S-106"], place.meters["S-106"]
    change(
        place,
        """UPDATE supply_order SET decided_at = (SELECT accepted_at FROM payment WHERE event_id = %s)
           WHERE account_id = %s""",
        event,
        account,
    )
    page.wait_for_selector("text=paid, waiting for the meter", timeout=WAIT_MS)
    assert page.locator(".wait").count() == 1
    change(
        place,
        "UPDATE supply_order SET state = 4, finished_at = sent_at WHERE meter_id = %s",
        meter,
    )
    page.wait_for_selector("text=The relay was read back: closed.", timeout=WAIT_MS)
    assert page.locator(".wait").count() == 0


def test_a_row_under_the_pointer_does_not_move(page: Any, place: Fernmoor) -> None:
    page.goto("/")
    rows = "#endings tbody tr"
    before = page.locator(rows).evaluate_all("rows => rows.map(row => row.dataset.row)")
    page.hover(f"{rows}:nth-child(2)")
    page.wait_for_timeout(1_000)
    change(
        place,
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
    page.goto("/")
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


def test_a_debt_is_agreed_on_by_keys_alone_and_its_pages_are_clean(
    page: Any, place: Fernmoor
) -> None:
    account = place.accounts["N-206"]
    change(
        place,
        "UPDATE account_state SET posted = available, accrued_energy = 0 WHERE account_id = %s",
        account,
    )
    page.goto(f"/accounts/{account}/debts/new")
    page.focus("#f-amount")
    page.keyboard.type("12.50")
    page.keyboard.press("Tab")
    page.keyboard.type("Key replaced")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Debt D-…, €12.50")
    page.focus("button[value=confirm]")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Mira Solberg owes €12.50 of D-1")
    debt = page.url.partition("?")[0]
    pages = (
        "/debts", "/refunds", "/lets", "/lets/new", "/recharges/400/take-back",
        f"/accounts/{account}/terms", f"/accounts/{account}/correct-tariff",
        f"/accounts/{account}/debts/new", "/tariffs/announced", "/tariffs/rules",
        "/tariffs/new?start=example:de-shop-time-of-use", "/tariffs", "/tariffs/R",
        "/tariffs/new?start=example:cn-ladder-four-bands", "/property/import",
    )  # fmt: skip
    for address in (debt, *some_pages(pages)):
        page.goto(address)
        assert_accessible(page, themes=("light",), widths=WIDTHS)


def test_an_unusual_amount_is_looked_at_twice_by_keys_alone(page: Any, place: Fernmoor) -> None:
    page.goto(f"/accounts/{place.accounts['N-404']}/recharge")
    page.focus("#amount")
    page.keyboard.type("50 000,00")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=What the money will do")
    page.focus("form button.main")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Is it really €50,000.00?")
    # A second press of Enter, out of habit, sells nothing: it goes back.
    assert page.evaluate("document.activeElement.textContent") == "No, another amount"
    assert_accessible(page, themes=("light",), widths=WIDTHS)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=€50,000.00 is on the account of N-404")


def test_a_tenant_is_changed_with_the_keyboard_alone(page: Any, place: Fernmoor) -> None:
    account = place.accounts["N-305"]
    change(
        place,
        """UPDATE account_state SET posted = available, accrued_energy = 0,
               posted_interval_no = interval_no WHERE account_id = %s""",
        account,
    )
    page.goto(f"/units/{place.units['N-305']}")
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
    page.focus("button[value=look]:visible")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Hand N-305 over from Orla Fenwick to Ben Okafor?")
    assert_accessible(page, themes=("light",))
    assert "€5.96" in page.inner_text("main") and "+€25.00" in page.inner_text("main")
    # Back to the form with what was written, and on again.
    page.click("button[value=edit]")
    assert page.input_value("#f-name") == "Ben Okafor" and page.is_checked("#f-refund")
    page.click("button[value=look]:visible")
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


def test_a_passkey_of_the_browser_signs_in_and_proves_a_deed(page: Any) -> None:
    """Chromium's own virtual device, through the page's script and under the strict policy.

    The last here, since the place's administrator has a factor from now on.
    """
    page.context.clear_cookies()
    devices = page.context.new_cdp_session(page)
    devices.send("WebAuthn.enable")
    devices.send(
        "WebAuthn.addVirtualAuthenticator",
        {"options": {
            "protocol": "ctap2", "transport": "internal", "hasUserVerification": True,
            "isUserVerified": True, "automaticPresenceSimulation": True,
        }},
    )  # fmt: skip
    sign_in(page)
    for path in some_pages(["/me", "/second-factor", "/me/recovery-codes", "/me/lost"]):
        page.goto(path)
        assert_accessible(page, widths=WIDTHS)
    page.goto("/me/passkeys/new")
    page.fill("#f-name", "Office laptop")
    page.click("[data-make]")
    page.wait_for_selector(".codes li")
    page.goto("/me/recovery-codes")
    page.click("[data-prove]")
    page.wait_for_selector(".codes li")
    for path in some_pages(["/me/passkeys/new", "/me/password", "/me/lost", "/me"]):
        page.goto(path)
        assert_accessible(page, widths=WIDTHS)
    page.goto("/me")
    page.locator("details.menu").evaluate("menu => { menu.open = true; }")
    page.click("text=Sign out")
    page.fill("#email", "administrator@fernmoor.example")
    page.fill("#password", PASSWORD)
    page.click("button.main")
    page.wait_for_selector("[data-prove]")
    assert_accessible(page, widths=WIDTHS)
    page.click("[data-prove]")
    page.wait_for_selector("#board")
    page.goto("/me")
    assert "last used" in page.inner_text("#factors")
