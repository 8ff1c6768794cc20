"""`prewatt concentrator`: registers concentrators and says which meters they may speak for.

Works as the owner of PREWATT_DSN's database, like `prewatt import`.
"""

from __future__ import annotations

import argparse
import sys
from datetime import datetime
from typing import TYPE_CHECKING

from prewatt import wiring

if TYPE_CHECKING:
    from prewatt.access.scope import Actor

REFUSED = 2
"""Exit status when nothing was done, with the reason on standard error."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands `add`, `put`, `take` and `list`."""
    commands = parser.add_subparsers(dest="concentrator_command", required=True)
    add = commands.add_parser("add", help="register a concentrator")
    put = commands.add_parser("put", help="let it speak for meters; who did before no longer may")
    take = commands.add_parser("take", help="let it speak for meters no longer")
    listed = commands.add_parser("list", help="which meters each concentrator speaks for")
    for each in (add, put, take, listed):
        each.add_argument("--property", required=True, metavar="CODE")
    for each in (add, put, take):
        each.add_argument("serial", help="the concentrator's serial number")
    add.add_argument("--name", default="")
    for each in (put, take):
        each.add_argument("meters", nargs="+", metavar="METER", help="a meter's serial number")
        each.add_argument(
            "--at",
            type=_instant,
            help="from when on, ISO 8601 with its offset from UTC (default: now)",
        )


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked; returns 2 where it is refused."""
    wiring.start_django()
    from django.db import connection

    from prewatt.estate.models import Property
    from prewatt.moves.concentrators import ConcentratorRefused

    try:
        place = Property.objects.filter(code=arguments.property).first()
        if place is None:
            raise ConcentratorRefused(f"no property {arguments.property}")
        _do(arguments, place.pk)
    except ConcentratorRefused as refused:
        print(f"prewatt: {refused}", file=sys.stderr)
        return REFUSED
    finally:
        connection.close()
    return 0


def _do(arguments: argparse.Namespace, property_id: int) -> None:
    from prewatt.access.scope import system_actor
    from prewatt.moves.concentrators import put_behind, register_concentrator, take_away

    actor, now = system_actor("concentrator", (property_id,)), wiring.now()
    if arguments.concentrator_command == "list":
        _print_list(actor, property_id)
        return
    serial = arguments.serial
    if arguments.concentrator_command == "add":
        register_concentrator(
            actor=actor, property_id=property_id, serial=serial, name=arguments.name, now=now
        )
        print(f"{serial} is registered; it speaks for no meter yet")
        return
    at, meters = arguments.at or now, arguments.meters
    if arguments.concentrator_command == "put":
        done = put_behind(
            actor=actor, property_id=property_id, serial=serial, meters=meters, at=at, now=now
        )
        print(f"{serial} speaks for {done.meters} more from {at.isoformat()} on")
    else:
        count = take_away(
            actor=actor, property_id=property_id, serial=serial, meters=meters, at=at, now=now
        )
        print(f"{serial} speaks for {count} fewer from {at.isoformat()} on")


def _print_list(actor: Actor, property_id: int) -> None:
    from prewatt.estate.queries import concentrators

    for each in concentrators(actor=actor, property_id=property_id):
        seen = "never heard" if each.last_seen_at is None else f"heard {each.last_seen_at:%F %T}"
        print(f"{each.serial}  {len(each.meters)} meters, {seen}")
        print(f"    {' '.join(each.meters)}")


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} does not say its offset from UTC")
    return at
