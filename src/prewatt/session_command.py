"""`prewatt instruct session`: session keys of the short form with a meter, and what is carried to it for them.

A part of `prewatt instruct` (`instruct_command.py`). It needs the key store: the instruction key signs what is carried,
and the session keys are sealed under its seals.
"""

from __future__ import annotations

import argparse
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prewatt.access.scope import Actor
    from prewatt.signing.keys import Signer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the meter's public half, the file for what is carried, and what else can be done with a session."""
    parser.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="the public half of the meter's key of agreement, P-256, PEM or DER (default: that of its last session)",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="begin a new session in place of the one there is, and write what is carried to the meter",
    )
    what.add_argument(
        "--again", type=Path, metavar="FILE", help="write what is carried for the session there is"
    )
    what.add_argument("--end", action="store_true", help="end the session: nothing is told then")


def run(
    arguments: argparse.Namespace, *, actor: Actor, property_id: int, meter_id: int, key: bytes | None, now: datetime,
) -> None:  # fmt: skip
    """Do what was asked. Raises SessionRefused, BadKey, NoSigningKey, KeyStoreRefused, OSError."""
    from prewatt.instructions.operations import SignerSeal
    from prewatt.instructions.sessions import SessionRefused, begin_session, end_session, last_offer
    from prewatt.signing.es256 import ES256PublicKey
    from prewatt.signing.keyring import seals_of
    from prewatt.signing.sessions import SessionSeals

    serial = arguments.serial
    if arguments.end:
        number = end_session(actor=actor, property_id=property_id, meter_id=meter_id, now=now)
        print(f"session {number} of {serial} has ended; it is told nothing until another begins")
        return
    if arguments.again:
        offer = last_offer(meter_id)
        if offer is None:
            raise SessionRefused("none")
        arguments.again.write_bytes(offer)
        print(f"{arguments.again}: carry it to {serial}")
        return
    point = None if key is None else ES256PublicKey.from_spki(key).point
    signer = _signer(meter_id, is_same=point is None, now=now)
    # First: a session whose half is nowhere shuts its meter out.
    arguments.out.write_bytes(b"")
    offer = begin_session(
        actor=actor, property_id=property_id, meter_id=meter_id, meter_point=point,
        by=SignerSeal(signer), seals=SessionSeals(seals_of(os.environ)), now=now,
    )  # fmt: skip
    arguments.out.write_bytes(offer)
    print(
        f"{arguments.out}: carry it to {serial}, which is told nothing in any other way from now on"
    )


def _signer(meter_id: int, *, is_same: bool, now: datetime) -> Signer:
    """Who signs an offer. A meter that had a session trusts the key that offered it, and cannot be told of another.

    One whose public half is given was made ready, or anew, and trusts the present key.
    """
    from prewatt.instructions.sessions import SessionRefused, offered_by
    from prewatt.signing.keyring import open_keyring
    from prewatt.signing.keys import KeyRole

    keyring = open_keyring()
    former = offered_by(meter_id) if is_same else None
    if former is None:
        return keyring.signer(KeyRole.INSTRUCTION, now=now)
    for each in keyring.living(KeyRole.INSTRUCTION):
        if bytes.fromhex(each.public.key_id) == former:
            return each
    raise SessionRefused("followed")
