"""Registrations, by a clock that is told: who is known, until when, and what waits for whom."""

import pytest

from prewatt.hes.drivers.lwm2m.links import Links
from prewatt.hes.drivers.lwm2m.registrations import (
    HELD_MAX,
    Registration,
    Registrations,
    UnknownRegistration,
)
from prewatt.hes.frames import Command, RelayState

SECOND = 1_000_000


def registrations() -> Registrations:
    numbers = iter(range(100))
    return Registrations(make_location=lambda: f"loc{next(numbers)}", awake_s=20)


def register(
    known: Registrations,
    serial: str = "NB-1",
    sender: str = "a:1",
    at: int = 0,
    *,
    sleeps: bool = True,
) -> Registration:
    return known.register(
        serial=serial, sender=sender, address=sender, links=Links(frozenset({(3, 0)})),
        version="1.1", sleeps=sleeps, lifetime_s=60, now_us=at * SECOND,
    )  # fmt: skip


def command(number: int, expires_s: int) -> Command:
    return Command(f"{number}.1.read", "read", None, 0, expires_s * SECOND)


def test_a_device_has_one_registration_which_ends_with_its_lifetime() -> None:
    known = registrations()
    first = register(known)
    first.held.append(command(1, 100))
    second = register(known, sender="a:2", at=10)
    assert len(known) == 1 and known.of("NB-1") is second
    assert list(second.held) == list(first.held), "what waits for it waits on"
    with pytest.raises(UnknownRegistration):
        known.at(first.location)
    assert known.of_sender("a:1") is None and known.of_sender("a:2") is second
    assert known.expire(69 * SECOND) == []
    update = {"links": None, "lifetime_s": None, "sleeps": None}
    assert not known.update(second, sender="a:2", address="a:2", now_us=69 * SECOND, **update)
    assert known.expire(128 * SECOND) == [], "an update is a lifetime more"
    assert known.expire(129 * SECOND) == [second]
    assert len(known) == 0 and known.of_sender("a:2") is None


def test_from_a_new_address_or_with_other_objects_it_is_met_anew() -> None:
    known = registrations()
    own = register(known)
    assert known.update(
        own, sender="b:9", address="b:9", links=None, lifetime_s=5, sleeps=False, now_us=SECOND
    )
    assert known.of_sender("a:1") is None and known.of_sender("b:9") is own
    assert own.expires_at_us == 6 * SECOND and not own.sleeps
    more = Links(frozenset({(3, 0), (3331, 0)}))
    assert known.update(
        own, sender="b:9", address="b:9", links=more, lifetime_s=None, sleeps=None, now_us=SECOND
    )
    # Another device behind the same address: whoever speaks from there now is that one.
    other = register(known, "NB-2", "b:9")
    known.remove(own)
    assert known.of_sender("b:9") is other


def test_a_sleeper_is_awake_for_a_while_and_what_waits_grows_old() -> None:
    known = registrations()
    own = register(known)
    assert known.is_awake(own, 19 * SECOND) and not known.is_awake(own, 20 * SECOND)
    assert known.is_awake(register(known, "NB-2", "c:1", sleeps=False), 10_000 * SECOND)
    for number in range(HELD_MAX + 2):
        own.held.append(command(number, 50 if number % 2 else 30))
    assert len(own.held) == HELD_MAX
    assert [each.command_id for each in known.take_held(own, 40 * SECOND)] == [
        "3.1.read", "5.1.read", "7.1.read", "9.1.read",
    ]  # fmt: skip
    assert known.take_held(own, 40 * SECOND) == []


def test_of_relay_commands_a_sleeper_gets_the_last_alone() -> None:
    """A cut that a recharge overtook while its meter slept opens no relay for a moment."""
    known = registrations()
    own = register(known)
    asked: tuple[tuple[int, RelayState], ...] = ((1, "open"), (3, "closed"))
    for number, state in asked:
        own.held.append(Command(f"{number}.1.relay", "relay", state, 0, 50 * SECOND))
        own.held.append(command(number + 1, 50))
    assert [each.command_id for each in known.take_held(own, 0)] == [
        "2.1.read", "3.1.relay", "4.1.read",
    ]  # fmt: skip
