"""Signing in under attack: strangers are slowed down, and nobody is locked out by them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from tests.fernmoor import PASSWORD, Fernmoor

from prewatt.core.throttle import ACCOUNT, NETWORK, PAIR
from prewatt.web import client_address, clock

HER = "operator@fernmoor.example"
WRONG = "not this one"


class Hands:
    """The clock of these tests."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 17, 9, tzinfo=UTC)

    def wait(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@pytest.fixture(autouse=True)
def cheap_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of people who do not exist; these tests try many."""
    from django.contrib.auth.hashers import Argon2PasswordHasher

    for cost, value in (("time_cost", 1), ("memory_cost", 8), ("parallelism", 1)):
        monkeypatch.setattr(Argon2PasswordHasher, cost, value)


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    hands = Hands()
    monkeypatch.setattr(clock, "now", lambda: hands.at)
    return hands


@pytest.fixture
def door(fernmoor: Fernmoor, hands: Hands) -> Callable[..., Any]:
    def knock(
        email: str, password: str, address: str = "192.0.2.1", by: Client | None = None, **more: Any
    ) -> Any:
        client = by or Client(headers={"host": "localhost"})
        form = {"email": email, "password": password}
        return client.post("/sign-in", form, REMOTE_ADDR=address, **more)

    return knock


def test_one_who_guesses_waits_longer_and_longer_and_others_do_not(
    door: Callable[..., Any], hands: Hands
) -> None:
    assert [door(HER, WRONG).status_code for _ in range(PAIR.free)] == [403] * PAIR.free
    waited = []
    for _ in range(4):
        refused = door(HER, PASSWORD)
        assert refused.status_code == 429, (
            "even the right password waits, or guessing would show it"
        )
        waited.append(int(refused["Retry-After"]))
        hands.wait(waited[-1])
        assert door(HER, WRONG).status_code == 403
    assert waited == [2, 4, 8, 16]
    # The person is somewhere else, and so is everybody else at the guesser's own network.
    assert door(HER, PASSWORD, "198.51.100.7").status_code == 302
    assert door("auditor@fernmoor.example", PASSWORD).status_code == 302


def test_trying_while_one_has_to_wait_does_not_make_it_longer(
    door: Callable[..., Any], hands: Hands
) -> None:
    for _ in range(PAIR.free):
        door(HER, WRONG)
    for _ in range(50):
        assert door(HER, WRONG)["Retry-After"] == "2"
    hands.wait(2)
    assert door(HER, PASSWORD).status_code == 302


def test_a_crowd_of_strangers_locks_nobody_out(door: Callable[..., Any], hands: Hands) -> None:
    """From a hundred networks at one person: who knows the browser comes in, others soon."""
    hers = Client(headers={"host": "localhost"})
    assert door(HER, PASSWORD, "198.51.100.7", by=hers).status_code == 302
    assert "storage" in hers.post("/sign-out")["Clear-Site-Data"]
    answers = [door(HER, WRONG, f"203.0.113.{each}").status_code for each in range(100)]
    assert answers.count(403) == ACCOUNT.free, "all of them together have as many tries as one"
    assert answers.count(429) == 100 - ACCOUNT.free
    assert door(HER, PASSWORD, "198.51.100.7", by=hers).status_code == 302
    for _ in range(20):
        stranger = door(HER, WRONG, "203.0.113.200")
        hands.wait(int(stranger["Retry-After"]) if stranger.status_code == 429 else 0)
    elsewhere = door(HER, PASSWORD, "198.51.100.8")
    if elsewhere.status_code == 429:
        assert int(elsewhere["Retry-After"]) <= ACCOUNT.most_s
        hands.wait(int(elsewhere["Retry-After"]))
        elsewhere = door(HER, PASSWORD, "198.51.100.8")
    assert elsewhere.status_code == 302


def test_a_known_browser_is_known_for_its_own_person_only(
    door: Callable[..., Any], hands: Hands
) -> None:
    mine = Client(headers={"host": "localhost"})
    assert door("auditor@fernmoor.example", PASSWORD, by=mine).status_code == 302
    mine.post("/sign-out")
    tries = [door(HER, WRONG, by=mine).status_code for _ in range(PAIR.free + 1)]
    assert tries == [403] * PAIR.free + [429]
    mine.cookies["prewatt_device"] = "forged"
    assert door(HER, WRONG, by=mine).status_code == 429


def test_spraying_one_password_over_many_people_is_slowed(
    door: Callable[..., Any], hands: Hands
) -> None:
    answers = [door(f"p{each}@example.com", WRONG).status_code for each in range(NETWORK.free + 5)]
    assert answers == [403] * NETWORK.free + [429] * 5
    # A sign-in of one's own takes back its own try and no other.
    hands.wait(1)
    assert door("auditor@fernmoor.example", PASSWORD).status_code == 302
    answers = [door(f"q{each}@example.com", WRONG).status_code for each in range(3)]
    assert answers == [403, 429, 429]


def test_an_ipv6_network_is_one_and_its_neighbour_another(door: Callable[..., Any]) -> None:
    for each in range(PAIR.free):
        assert door(HER, WRONG, f"2001:db8:0:1::{each + 1}").status_code == 403
    assert door(HER, PASSWORD, "2001:db8:0:1:ffff::1").status_code == 429
    assert door(HER, PASSWORD, "2001:db8:0:2::1").status_code == 302


def test_who_exists_is_not_told(door: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same words, the same number of digests, the same waits for a person and for nobody."""
    from django.contrib.auth.hashers import Argon2PasswordHasher

    digests: list[str] = []
    encode = Argon2PasswordHasher.encode
    verify = Argon2PasswordHasher.verify
    monkeypatch.setattr(
        Argon2PasswordHasher, "encode", lambda *a: digests.append("one") or encode(*a)
    )
    monkeypatch.setattr(
        Argon2PasswordHasher, "verify", lambda *a: digests.append("one") or verify(*a)
    )
    seen = []
    for email, address in ((HER, "192.0.2.10"), ("nobody@fernmoor.example", "192.0.2.11")):
        digests.clear()
        answers = [door(email, WRONG, address) for _ in range(PAIR.free + 1)]
        pages = [
            each.content.replace(email.encode(), b"who").split(b'name="csrfmiddlewaretoken"')[0]
            for each in answers
        ]
        seen.append(([each.status_code for each in answers], pages, len(digests)))
    assert seen[0] == seen[1]
    assert seen[0][2] == PAIR.free, "a try that waits costs no digest"


def test_a_thousand_tries_at_once_are_counted_one_by_one(
    door: Callable[..., Any], fernmoor: Fernmoor
) -> None:
    from django.db import connection

    def one(_: int) -> int:
        try:
            return int(door(HER, WRONG).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(24)))
    assert answers.count(403) == PAIR.free
    assert answers.count(429) == 24 - PAIR.free


def test_a_header_is_believed_from_a_trusted_proxy_only(
    door: Callable[..., Any], settings_of_proxies: Callable[[str], None]
) -> None:
    for each in range(PAIR.free):
        door(HER, WRONG, HTTP_X_FORWARDED_FOR=f"203.0.113.{each}")
    other = {"HTTP_X_FORWARDED_FOR": "203.0.113.99"}
    assert door(HER, WRONG, **other).status_code == 429, "a bare header changed the address"
    settings_of_proxies("192.0.2.0/24, 2001:db8::1")
    assert door(HER, WRONG, **other).status_code == 403
    # What the client itself wrote before the proxy's own entry is not believed either.
    forged = {"HTTP_X_FORWARDED_FOR": "8.8.8.8, 203.0.113.98, 192.0.2.7"}
    for _ in range(PAIR.free):
        assert door("someone@example.com", WRONG, **forged).status_code == 403
    forged["HTTP_X_FORWARDED_FOR"] = "9.9.9.9, 203.0.113.98, 192.0.2.8"
    assert door("someone@example.com", WRONG, **forged).status_code == 429
    assert door("someone@example.com", WRONG, HTTP_X_FORWARDED_FOR="nonsense").status_code == 403


@pytest.fixture
def settings_of_proxies(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    from django.conf import settings

    return lambda text: monkeypatch.setattr(
        settings, "TRUSTED_PROXIES", client_address.proxies(text)
    )


def test_a_proxy_that_is_no_address_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="proxy"):
        client_address.proxies("proxy.example")
