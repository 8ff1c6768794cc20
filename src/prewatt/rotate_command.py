"""`prewatt instruct rotate`: leads meters from one instruction key to the next, and says how far they are.

Which keys there are says the file (`prewatt keys`). Without a word it only shows who trusts which. `--begin` has meters come to the
newest key, all of them or some first; the head-end tells them, and goes on telling who is away. `--end` revokes a former key, as
`prewatt keys revoke` does, once the meters that would be lost with it are none, or are named by their number.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from prewatt import wiring

if TYPE_CHECKING:
    from prewatt.access.scope import Actor
    from prewatt.instructions.rotation import Trusting
    from prewatt.signing.keyring import Keyring
    from prewatt.signing.keys import PublicKey

REFUSED = 2
"""Exit status when nothing was done; the reason on standard error."""
_NAMED_MAX: Final = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `rotate` can be told."""
    parser.add_argument(
        "--property", metavar="CODE", help="meters of this property alone (not with --end)"
    )
    parser.add_argument(
        "--serial", action="append", default=[], help="this meter alone; may be said again"
    )
    parser.add_argument("--most", type=int, help="with --begin: so many meters more, and no more")
    deed = parser.add_mutually_exclusive_group()
    deed.add_argument("--begin", action="store_true", help="have meters come to the newest key")
    deed.add_argument("--end", metavar="KEY", help="revoke this former key")
    parser.add_argument("--losing", type=int, default=0, metavar="N", help="with --end: N are lost")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--agreed", type=int, metavar="PROPOSAL", help="as of `prewatt keys revoke`")
    how.add_argument("--alone", metavar="WHY", help="as of `prewatt keys revoke`")
    parser.add_argument("--format", choices=("text", "json"), default="text")


@dataclass(frozen=True, slots=True)
class _Keys:
    """The instruction keys, the oldest first, by their ids."""

    all: dict[bytes, PublicKey]
    #: That are not revoked; and of these, those whose time has come.
    living: tuple[bytes, ...]
    signing: tuple[bytes, ...]

    @property
    def newest(self) -> bytes:
        return self.living[-1]


def run(arguments: argparse.Namespace) -> int:
    """Show, begin or end; returns 2 where it is refused."""
    wiring.start_django()
    from django.db import connection

    from prewatt.access.scope import system_actor
    from prewatt.estate.models import Property
    from prewatt.instructions.rotation import trusting
    from prewatt.signing.keyring import NoSigningKey, open_keyring
    from prewatt.signing.store import KeyStoreRefused

    now = wiring.now()
    try:
        keys = _keys(open_keyring(), now)
        actor = system_actor("instruct", tuple(Property.objects.values_list("pk", flat=True)))
        if arguments.end:
            return _end(arguments, actor, keys, now)
        meters = [
            each
            for each in trusting(actor=actor)
            if arguments.property in (None, each.code)
            and (not arguments.serial or each.serial in arguments.serial)
        ]
        if arguments.begin:
            _begin(arguments, actor, keys, meters, now)
            meters = _again(actor, meters)
        _show(keys, meters, now, arguments.format)
    except (NoSigningKey, KeyStoreRefused) as refused:
        print(f"prewatt: {refused}", file=sys.stderr)
        return REFUSED
    finally:
        connection.close()
    return 0


def _keys(keyring: Keyring, now: datetime) -> _Keys:
    from prewatt.signing.keyring import NoSigningKey
    from prewatt.signing.keys import KeyRole

    every = [each for each in keyring.public_keys() if each.role is KeyRole.INSTRUCTION]
    living = [each.public for each in keyring.living(KeyRole.INSTRUCTION)]
    if not living:
        raise NoSigningKey("there is no instruction key; prewatt keys make instruction makes one")
    return _Keys(
        {bytes.fromhex(each.key_id): each for each in every},
        tuple(bytes.fromhex(each.key_id) for each in living),
        tuple(bytes.fromhex(each.key_id) for each in living if each.signs_from <= now),
    )


def _begin(
    arguments: argparse.Namespace, actor: Actor, keys: _Keys, meters: list[Trusting], now: datetime
) -> None:
    from prewatt.instructions.rotation import lead

    others = [each for each in meters if each.next_key != keys.newest]
    count = lead(actor=actor, meters=others[: arguments.most], key_id=keys.newest, now=now)
    print(f"{count} meters more are to come to {keys.newest.hex()}", file=sys.stderr)


def _again(actor: Actor, meters: list[Trusting]) -> list[Trusting]:
    from prewatt.instructions.rotation import trusting

    shown = {each.meter_id for each in meters}
    return [each for each in trusting(actor=actor) if each.meter_id in shown]


def _end(arguments: argparse.Namespace, actor: Actor, keys: _Keys, now: datetime) -> int:
    from prewatt import keys_command
    from prewatt.instructions.rotation import lead, offered_sessions, trusting

    try:
        key_id = bytes.fromhex(arguments.end)
    except ValueError:
        key_id = b""
    if key_id not in keys.living or key_id == keys.newest:
        print(f"prewatt: {arguments.end} is no former instruction key that lives", file=sys.stderr)
        return REFUSED
    meters = trusting(actor=actor)
    lost = [each for each in meters if each.is_lost_without(key_id, living=keys.signing)]
    narrow = offered_sessions(actor=actor, key_id=key_id)
    count = len(lost) + len(narrow)
    if count != arguments.losing:
        for each in lost:
            why = "has never answered" if each.trusts is None else "trusts no other key of ours"
            print(f"prewatt: {each.code} {each.serial} {why}", file=sys.stderr)
        for code, serial in narrow:
            print(f"prewatt: {code} {serial} would take no other session", file=sys.stderr)
        print(
            f"prewatt: {count} meters would have to be visited before they are instructed, or given another session;"
            f" nothing was done. --losing {count} ends the key all the same",
            file=sys.stderr,
        )
        return REFUSED
    status = keys_command.run(
        argparse.Namespace(
            keys_command="revoke",
            key_id=key_id.hex(),
            agreed=arguments.agreed,
            alone=arguments.alone,
        )
    )
    if status == 0:
        # Whoever trusts it besides others drops it.
        lead(
            actor=actor,
            meters=[each for each in meters if each.trusts and key_id in each.trusts],
            key_id=keys.newest,
            now=now,
        )
    return status


def _show(keys: _Keys, meters: list[Trusting], now: datetime, form: str) -> None:
    ours, newest = set(keys.all), keys.newest
    ways = {each.meter_id: each.way_to(newest, ours=ours) for each in meters}
    if form == "json":
        print(
            json.dumps(
                {
                    "newest": newest.hex(),
                    "keys": {key_id.hex(): _state(key, now) for key_id, key in keys.all.items()},
                    "ways": Counter(ways.values()),
                    "meters": [
                        {
                            "property": each.code,
                            "serial": each.serial,
                            "way": ways[each.meter_id],
                            "is_told": each.next_key == newest,
                            "trusts": None if each.trusts is None else [k.hex() for k in each.trusts],
                            "verified_at": each.verified_at and each.verified_at.isoformat(),
                        }
                        for each in meters
                    ],
                },
                indent=2,
            )
        )  # fmt: skip
        return
    for key_id, key in keys.all.items():
        trusted = sum(1 for each in meters if each.trusts and key_id in each.trusts)
        print(f"{key_id.hex()}  {_state(key, now)}, trusted by {trusted:,} of {len(meters):,}")
    for way, count in sorted(Counter(ways.values()).items()):
        named = [f"{each.code} {each.serial}" for each in meters if ways[each.meter_id] is way]
        rest = f" and {count - _NAMED_MAX:,} more" if count > _NAMED_MAX else ""
        print(f"{_WORDS[way]}: {count:,}")
        if way not in ("done", "trusts"):
            print(f"  {', '.join(named[:_NAMED_MAX])}{rest}")


_WORDS: Final = {
    "done": "trust the newest key alone",
    "trusts": "trust the newest key besides others",
    "waits": "do not trust the newest key yet",
    "cannot": "cannot be told of it: they know the first form of instructions alone",
    "silent": "have never answered",
    "foreign": "trust a key that is none of ours: visit them",
}


def _state(key: PublicKey, now: datetime) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "waits" if now < key.signs_from else "signs"
