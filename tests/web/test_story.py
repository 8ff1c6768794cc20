"""A price by two people, from the first change to the first kilowatt-hour it charges, in a real browser.

With ``PREWATT_SCREENS`` set to a folder it keeps a picture of each step: those in ``docs/screens`` are made so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyotp
from cryptography.fernet import Fernet

from fernmoor import NOW, PASSWORD, Fernmoor
from prewatt.access.second_factor import STEP_S
from prewatt.billing.trials import run_next_trial
from web.test_browser import browser, opened, pytestmark, serving

__all__ = ["browser", "pytestmark"]

SCREENS = os.environ.get("PREWATT_SCREENS", "")
#: The evening after the midnight from which the price holds: 20:00 in Berlin.
EVENING = datetime(2026, 11, 18, 19, 0, tzinfo=UTC)
DEVICE = {
    "protocol": "ctap2", "transport": "internal", "hasUserVerification": True, "isUserVerified": True,
    "automaticPresenceSimulation": True,
}  # fmt: skip
Owner = Callable[[Fernmoor], AbstractContextManager[None]]


class Person:
    """Somebody at a browser, with an app that makes codes by the web's clock."""

    def __init__(self, email: str, page: Any, at: datetime) -> None:
        self.page = page
        self._email = f"{email}@fernmoor.example"
        self._ahead = at - datetime.now(UTC)
        self.app: pyotp.TOTP | None = None
        self._last = 0

    def leaves_to(self, email: str) -> Person:
        """Leave the browser to somebody else; nothing in it knows who was there."""
        self.page.context.clear_cookies()
        return Person(email, self.page, datetime.now(UTC) + self._ahead)

    def knock(self) -> None:
        """Name and password."""
        self.page.goto("/sign-in")
        self.page.fill("#email", self._email)
        self.page.fill("#password", PASSWORD)
        self.page.click("button.main")

    def take_up_app(self) -> None:
        """Let the app read the secret of the page, and type what it shows."""
        secret = self.page.inner_text(".secret")
        self.app = pyotp.TOTP(re.sub(r"\s", "", secret))
        self.page.fill("#f-code", self.code())
        self.page.click("text=Take it up")
        self.page.wait_for_selector(".codes li")

    def code(self) -> str:
        """What the app shows; waits for the next one where this one was used."""
        assert self.app is not None
        now = (datetime.now(UTC) + self._ahead).timestamp()
        # One step behind is taken and one ahead, as of phones whose clocks are a little slow or fast: three
        # codes in a row, the first of which has to hold for as long as the clock here is behind.
        self._last = max(int(now - STEP_S / 2) // STEP_S, self._last + 1)
        early_s = (self._last - 1) * STEP_S - now
        if early_s > 0:
            self.page.wait_for_timeout(early_s * 1000 + 200)
        return str(self.app.generate_otp(self._last))

    def shot(self, name: str, *, width: int = 1280) -> None:
        """Keep a picture of what this person sees now."""
        if SCREENS:
            self.page.set_viewport_size({"width": width, "height": 900})
            self.page.screenshot(path=Path(SCREENS) / f"{name}.png", full_page=True)
            self.page.set_viewport_size({"width": 1280, "height": 900})


def test_a_price_by_two_people_from_its_draft_to_its_first_charge(
    browser: Any, fernmoor: Fernmoor, as_owner: Owner
) -> None:
    with as_owner(fernmoor):
        fernmoor.another_user("second", "Jonas Weir", "administrator")
        fernmoor.settle("N-305")
    keys = {"PREWATT_DEMO": "0", "PREWATT_FACTOR_KEYS": Fernet.generate_key().decode("ascii")}
    with ExitStack() as stack:
        address = stack.enter_context(serving(fernmoor, **keys)).replace("127.0.0.1", "localhost")

        # Whoever tries to approve their own proposal is told 409, and a form that is sent while its
        # picture is still asked for says that nobody waits for that: no fault of the pages.
        page = stack.enter_context(opened(browser, address, told=("409", "htmx:")))
        ines = Person("administrator", page, NOW)
        ines.knock()
        ines.shot("01-a-second-factor-is-taken-up")
        ines.take_up_app()
        changes_the_price(ines)
        with as_owner(fernmoor):
            assert run_next_trial(now=NOW)
        proposal = tries_and_proposes(ines)
        cannot_approve(ines, proposal)
        jonas = ines.leaves_to("second")
        approves_by_passkey(jonas, proposal)
        secret = ines.app
    with ExitStack() as stack:
        address = stack.enter_context(serving(fernmoor, at=EVENING, **keys))
        page = stack.enter_context(opened(browser, address.replace("127.0.0.1", "localhost")))
        ines = Person("administrator", page, EVENING)
        ines.app = secret
        ines.knock()
        ines.page.fill("#f-code", ines.code())
        ines.page.click("button.main")
        ines.page.wait_for_selector("#board")
        is_charged_at_the_new_price(ines, fernmoor)
        tomas = ines.leaves_to("auditor")
        tomas.knock()
        tomas.take_up_app()
        sees_it_all(tomas, proposal)


def changes_the_price(ines: Person) -> None:
    """The peak price rises, in the plan that everybody pays by."""
    page = ines.page
    page.goto("/tariffs/new?start=tariff:R")
    page.fill("#f-bands-2-prices-0", "0.3980")
    page.fill("#f-reason", "The supplier's peak price rose")
    page.press("#f-reason", "Tab")
    page.wait_for_selector("text=€0.3980 per kWh")
    # Each change brings the form anew, 400 ms later; a press in between would be lost with the old one.
    page.wait_for_timeout(500)
    page.wait_for_function("() => !document.querySelector('.htmx-request')")
    ines.shot("02-the-price-is-changed")
    page.click("button[value=save]")
    page.wait_for_url("**/tariffs/drafts/R?saved=1")
    page.goto("/tariffs/drafts/R/trial")
    page.click("main form button.main")
    page.wait_for_load_state()


def tries_and_proposes(ines: Person) -> str:
    """What it would have cost on real days is looked at; then it is proposed, with a code."""
    page = ines.page
    page.goto("/tariffs/drafts/R/trial")
    page.wait_for_selector("text=N-305")
    ines.shot("03-it-is-tried-on-real-days")
    page.goto("/tariffs/drafts/R/propose")
    page.fill("#f-from", "2026-11-18")
    page.fill("#f-reason", "Agreed in the board")
    page.click("button[value=look]")
    page.fill("#f-code", ines.code())
    ines.shot("04-it-is-proposed-with-a-code")
    page.click("button[value=confirm]")
    page.wait_for_url("**/approvals/*")
    return str(re.sub(r"^.*(/approvals/\d+).*$", r"\1", page.url))


def cannot_approve(ines: Person, proposal: str) -> None:
    """The page does not offer it; a form of one's own making is refused all the same."""
    page = ines.page
    assert "Approve it" not in page.inner_text("main")
    page.evaluate(
        """([where, code]) => {
            const form = document.querySelector('main form').cloneNode(true);
            form.action = where;
            form.innerHTML += `<input name="do" value="approve"><input name="code" value="${code}">`;
            document.body.append(form);
            form.submit();
        }""",
        [proposal, ines.code()],
    )
    page.wait_for_selector("text=what they proposed themselves")
    ines.shot("05-nobody-approves-their-own")


def approves_by_passkey(jonas: Person, proposal: str) -> None:
    """A colleague takes up an app at the first sign-in and a passkey beside it, and approves by that."""
    page = jonas.page
    devices = page.context.new_cdp_session(page)
    devices.send("WebAuthn.enable")
    devices.send("WebAuthn.addVirtualAuthenticator", {"options": DEVICE})
    jonas.knock()
    jonas.take_up_app()
    page.goto("/me/passkeys/new")
    page.fill("#f-name", "Office laptop")
    page.fill("#f-code", jonas.code())
    page.click("[data-make]")
    page.wait_for_selector("#factors >> text=Office laptop")
    jonas.shot("06-a-passkey-beside-the-app")
    page.goto(proposal)
    jonas.shot("07-a-colleague-looks-at-the-difference")
    jonas.shot("08-the-same-on-a-phone", width=390)
    page.click("[data-prove]")
    page.wait_for_url("**?done=approve")
    jonas.shot("09-approved-with-a-passkey")


def is_charged_at_the_new_price(ines: Person, place: Fernmoor) -> None:
    """After midnight the new version holds, and what is used is charged by it."""
    page = ines.page
    page.goto("/tariffs/R")
    page.wait_for_selector("text=€0.3980 per kWh")
    ines.shot("10-after-midnight-it-holds")
    last, where = place.register("N-305"), f"/meters/{place.meters['N-305']}/read"
    for at, kwh in (("2026-11-18T17:00", 2), ("2026-11-18T19:00", 3)):
        page.goto(where)
        page.fill("#f-register", f"{last / 1000 + kwh:.3f}")
        page.fill("#f-at", at)
        page.fill("#f-reason", "The line was down")
        page.click("button[value=look]")
        page.wait_for_selector("button[value=confirm]")
        if kwh == 3:
            # One kilowatt-hour between 17:00 and 19:00.
            page.wait_for_selector("text=−€0.40")
            ines.shot("11-and-a-kilowatt-hour-is-charged-by-it")
        page.click("button[value=confirm]")
        page.wait_for_load_state()


def sees_it_all(tomas: Person, proposal: str) -> None:
    """Every step stands in the audit: the draft, the trial, the proposal, the refused try, the approval."""
    page = tomas.page
    page.goto("/audit?show=all")
    for said in (
        "Approved a proposal",
        "Proposed a change",
        "Tried a draft",
        "Was refused",
        "Entered a reading",
    ):
        assert said in page.inner_text("main"), said
    tomas.shot("12-the-auditor-sees-it-all")
    page.goto(proposal)
    tomas.shot("13-and-who-agreed-to-what")
