"""`prewatt instruct`: keys of meters that verify, sessions, credit in meters, and what was told and answered.

Works as the owner of PREWATT_DSN's database, like `prewatt import`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from prewatt import rotate_command, session_command, wiring
from prewatt.core.vocabulary import RelayState

if TYPE_CHECKING:
    from datetime import datetime

    from prewatt.access.scope import Actor
    from prewatt.instructions.queries import ToldLine

REFUSED = 2
"""Exit status when nothing was done, or when an answer does not verify; the reason on standard error."""
UNVERIFIED = 1


class _Refused(Exception):
    """Nothing was done."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands `enrol`, `revoke`, `session`, `hold-credit`, `release-credit`, `limit`, `rotate` and `show`."""
    commands = parser.add_subparsers(dest="instruct_command", required=True)
    enrol = commands.add_parser("enrol", help="believe a meter's answers by its public key")
    revoke = commands.add_parser("revoke", help="believe nothing any more that a key signed")
    hold = commands.add_parser("hold-credit", help="let a meter hold its account's credit itself")
    release = commands.add_parser("release-credit", help="let a meter hold no credit any more")
    show = commands.add_parser("show", help="the last instructions, each answer verified again")
    session = commands.add_parser("session", help="agree on keys with a meter behind LoRaWAN")
    limit = commands.add_parser("limit", help="have a meter open its relay above a power")
    rotate_command.add_arguments(
        commands.add_parser("rotate", help="lead meters to the next instruction key")
    )
    for each in (enrol, revoke, session, hold, release, limit, show):
        each.add_argument("--property", required=True, metavar="CODE")
        each.add_argument("serial", help="the meter's serial number")
    enrol.add_argument("key", type=Path, help="its public key, P-256, PEM or DER")
    revoke.add_argument("key_id", help="32 hexadecimal digits, as `show` prints them")
    revoke.add_argument("--reason", required=True)
    limit.add_argument("watts", type=int, help="the power in W; 0 for no limit")
    limit.add_argument(
        "--seconds",
        type=int,
        default=300,
        help="for how long it opens before it closes by itself (300)",
    )
    release.add_argument(
        "--without-answer", metavar="REASON", help="end what was released and is not answered"
    )
    session_command.add_arguments(session)
    show.add_argument("--last", type=int, default=20, help="how many (default: 20)")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked; returns 2 where it is refused, and 1 where a stored answer does not verify."""
    if arguments.instruct_command == "rotate":
        return rotate_command.run(arguments)
    wiring.start_django()
    from django.db import connection

    from prewatt.access.scope import system_actor
    from prewatt.estate.models import Meter
    from prewatt.instructions.limits import LimitRefused
    from prewatt.instructions.sessions import SessionRefused
    from prewatt.instructions.wallets import WalletRefused
    from prewatt.signing.es256 import BadKey
    from prewatt.signing.keyring import NoSigningKey
    from prewatt.signing.store import KeyStoreRefused

    try:
        meter = Meter.objects.filter(
            property__code=arguments.property, serial=arguments.serial
        ).first()
        if meter is None:
            raise _Refused(f"no meter {arguments.serial} at {arguments.property}")
        place = int(meter.property_id)
        actor = system_actor("instruct", (place,))
        return _do(arguments, actor, place, int(meter.pk), wiring.now())
    except (
        _Refused, WalletRefused, SessionRefused, LimitRefused, NoSigningKey, KeyStoreRefused, BadKey,
        OSError,
    ) as refused:  # fmt: skip
        print(f"prewatt: {refused}", file=sys.stderr)
        return REFUSED
    finally:
        connection.close()


def _do(
    arguments: argparse.Namespace, actor: Actor, place: int, meter_id: int, now: datetime
) -> int:
    from prewatt.instructions.operations import enrol_key, revoke_key

    serial = arguments.serial
    match arguments.instruct_command:
        case "enrol":
            key_id = enrol_key(
                actor=actor, property_id=place, meter_id=meter_id, public_key=_key(arguments.key),
                now=now,
            )  # fmt: skip
            print(f"{serial} is instructed by signature from now on; its key is {key_id.hex()}")
        case "revoke":
            is_done = revoke_key(
                actor=actor, property_id=place, key_id=_key_id(arguments.key_id),
                reason=arguments.reason, now=now,
            )  # fmt: skip
            if not is_done:
                raise _Refused(f"there is no key {arguments.key_id} that is not revoked")
            print(f"nothing that {arguments.key_id} signs is believed any more")
        case "session":
            session_command.run(
                arguments, actor=actor, property_id=place, meter_id=meter_id,
                key=_key(arguments.key) if arguments.key else None, now=now,
            )  # fmt: skip
        case "hold-credit":
            _hold(actor, place, meter_id, now)
            print(f"{serial} holds its account's credit from now on")
        case "limit":
            print(_limit(arguments, actor, place, meter_id, now))
        case "release-credit":
            print(_let_go(arguments, actor, place, meter_id, now))
        case _:
            return _show(meter_id, serial, arguments.last)
    return 0


def _key(path: Path) -> bytes:
    """The key's SubjectPublicKeyInfo. Raises BadKey."""
    from prewatt.signing.es256 import spki_in

    try:
        return spki_in(path.read_bytes())
    except OSError as error:
        raise _Refused(f"{path}: {error}") from None


def _key_id(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise _Refused(f"not a key id: {text}") from None


def _hold(actor: Actor, place: int, meter_id: int, now: datetime) -> None:
    from prewatt.instructions.wallets import hold_credit, payer_of

    account_id = payer_of(meter_id, now=now)
    if account_id is None:
        raise _Refused("nobody pays by this meter")
    hold_credit(actor=actor, property_id=place, meter_id=meter_id, account_id=account_id, now=now)


def _limit(
    arguments: argparse.Namespace, actor: Actor, place: int, meter_id: int, now: datetime
) -> str:
    from prewatt.instructions.limits import set_limit

    watts = arguments.watts
    open_s = arguments.seconds if watts else 0
    set_limit(
        actor=actor, property_id=place, meter_id=meter_id, watts=watts, open_s=open_s, now=now
    )
    if not watts:
        return f"{arguments.serial} is told to have no limit"
    return f"{arguments.serial} is told to open for {open_s} s above {watts} W"


def _let_go(
    arguments: argparse.Namespace, actor: Actor, place: int, meter_id: int, now: datetime
) -> str:
    from prewatt.instructions.wallets import end_without_answer, release_credit

    if arguments.without_answer is None:
        release_credit(actor=actor, property_id=place, meter_id=meter_id, now=now)
        return f"{arguments.serial} is told of no more credit, and to hold none"
    end_without_answer(
        actor=actor, property_id=place, meter_id=meter_id, note=arguments.without_answer, now=now
    )
    return f"the credit in {arguments.serial} has ended without its answer"


def _argument(line: ToldLine) -> str:
    """A relay's state as a word, nothing where nothing is asked for, else the number."""
    if line.operation == "relay":
        return RelayState(line.argument).name.lower()
    return "" if line.operation == "read" else str(line.argument)


def _show(meter_id: int, serial: str, last: int) -> int:
    from prewatt.instructions.queries import told_and_answered

    status = 0
    for line in told_and_answered(meter_id, serial, last=last):
        if line.answer == "does not verify":
            status = UNVERIFIED
        print(
            f"{line.sequence:>6}  {line.issued_at.isoformat()}  {line.operation:<7} {_argument(line):>14}"
            f"  {line.state:<10} {line.result:<13} {line.answer}"
        )
    return status
