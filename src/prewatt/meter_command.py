"""`prewatt meter`: reads a meter where it stands, and makes the key that a meter on CoAP is given.

Needs no database: an installer has none. Where PREWATT_DSN names one, that a key was made is an event of the audit.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Final

REFUSED: Final = 2
"""Exit status when nothing was found or nothing made, with the reason on standard error."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands `probe` and `key`."""
    commands = parser.add_subparsers(dest="meter_command", required=True)
    probe = commands.add_parser("probe", help="read a meter and print what it found")
    probe.add_argument(
        "address",
        help="coap://HOST[:PORT], mqtt://HOST[:PORT]/SERIAL, or behind LoRaWAN the network server's broker: "
        "chirpstack[+tls]://[NAME@]HOST:PORT/DEVEUI/MODEL (or chirpstack-protobuf, the-things-stack)",
    )
    probe.add_argument(
        "--wait", type=float, default=60.0, metavar="S", help="for each answer (default: 60)"
    )
    key = commands.add_parser("key", help="make a meter's OSCORE key and print it, this once")
    key.add_argument("serial")
    key.add_argument(
        "--again", action="store_true", help="in place of the one it has, which is shut out then"
    )
    probe.add_argument(
        "--format",
        choices=("text", "json", "row"),
        default="text",
        help="row: as the table by which meters are fitted has it",
    )
    key.add_argument("--format", choices=("text", "json"), default="text")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked; returns 2 where there is nothing."""
    if arguments.meter_command == "probe":
        return _probe(arguments)
    return _key(arguments)


def _probe(arguments: argparse.Namespace) -> int:
    from prewatt import wiring
    from prewatt.head_end import LORAWAN_AUTHORITY_VARIABLE, LORAWAN_PASSWORD_VARIABLE
    from prewatt.hes.probe import NothingFound, probe

    try:
        found = probe(
            arguments.address,
            timeout_s=arguments.wait,
            password=os.environ.get(LORAWAN_PASSWORD_VARIABLE),
            authority=os.environ.get(LORAWAN_AUTHORITY_VARIABLE),
        )
    except (NothingFound, ValueError, OSError) as refused:
        print(f"prewatt: {refused}", file=sys.stderr)
        return REFUSED
    if found.clock_drift_s is not None:
        # A demonstration's meters live at its time, which the file of its commands names.
        found.clock_drift_s -= round(wiring.clock_offset().total_seconds())
    if arguments.format == "json":
        print(json.dumps(found.as_json(), indent=2))
    else:
        print(found.as_row() if arguments.format == "row" else found.as_text())
    return 0


def _key(arguments: argparse.Namespace) -> int:
    from prewatt.hes.drivers.lwm2m.keys import (
        FOLDER_VARIABLE,
        DeviceKeysRefused,
        open_device_keys,
    )

    try:
        keys = open_device_keys(os.environ)
        if keys is None:
            raise DeviceKeysRefused(f"{FOLDER_VARIABLE} is not set: say where keys are kept")
        made = keys.make(arguments.serial, again=arguments.again)
    except DeviceKeysRefused as refused:
        print(f"prewatt: {refused}", file=sys.stderr)
        return REFUSED
    _write_down(made.serial, again=arguments.again)
    # The names of object 21 of LwM2M (OSCORE), as the device has them.
    fields = {
        "serial": made.serial,
        "master_secret": made.secret.hex(),
        "master_salt": made.salt.hex(),
        "sender_id": made.device_id.hex(),
        "recipient_id": made.server_id.hex(),
        "aead": "AES-CCM-16-64-128",
        "hmac": "HKDF SHA-256",
    }
    if arguments.format == "json":
        print(json.dumps(fields, indent=2))
    else:
        print("\n".join(f"{name:<14} {value}" for name, value in fields.items()))
    return 0


def _write_down(serial: str, *, again: bool) -> None:
    """Say in the audit that a key was made; at every property where the meter is known at none."""
    if not os.environ.get("PREWATT_DSN"):
        print("prewatt: written in no audit, for PREWATT_DSN is not set", file=sys.stderr)
        return
    from prewatt import wiring

    wiring.start_django("meter")
    from django.db import DatabaseError, connection

    from prewatt.audit.operations import record_many

    try:
        with connection.cursor() as cursor:
            cursor.execute(
                """SELECT m.property_id, 'meter:' || m.id FROM meter m WHERE m.serial = %(serial)s
                   UNION ALL SELECT p.id, 'meter:' || %(serial)s FROM property p
                   WHERE NOT EXISTS (SELECT FROM meter k WHERE k.serial = %(serial)s)""",
                {"serial": serial},
            )
            places = cursor.fetchall()
        record_many(
            actor="system:meter", code="devices.key_made", now=wiring.now(),
            rows=[(place, subject[:80], {"serial": serial, "again": again}) for place, subject in places],
        )  # fmt: skip
    except DatabaseError as error:
        first = str(error).strip().partition("\n")[0]
        print(f"prewatt: the key was made and is written in no audit: {first}", file=sys.stderr)
    finally:
        connection.close()
