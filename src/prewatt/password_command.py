"""`prewatt password`: sets or resets the password of a login, and ends its sessions.

The password is read from the terminal, twice and unseen, or as one line of standard input; never from
an argument, which every user of the machine could read. Works as the owner of PREWATT_DSN's database,
like `prewatt import`: no other login may write a password.
"""

from __future__ import annotations

import argparse
import getpass
import sys

from prewatt import wiring
from prewatt.runtime.state import CannotRunError

REFUSED = 2
"""Exit status when the password or the login is refused."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add whose password it is."""
    parser.add_argument(
        "email", help="the login; its new password is asked for, or read from standard input"
    )
    parser.add_argument(
        "--forget-second-factor",
        action="store_true",
        help="leave the password and take every second factor away, so that another is taken up",
    )


def run(arguments: argparse.Namespace) -> int:
    """Set it; returns 2 when it is refused, with the reason on standard error."""
    wiring.start_django()
    from django.db import DatabaseError, connection

    from prewatt.access.passwords import PasswordRefused, set_password
    from prewatt.access.scope import system_actor

    if arguments.forget_second_factor:
        return _forget(arguments.email)
    password = _read()
    if password is None:
        print("prewatt: the two are not the same; nothing was changed", file=sys.stderr)
        return REFUSED
    try:
        user = set_password(
            actor=system_actor("password"),
            email=arguments.email,
            password=password,
            now=wiring.now(),
        )
    except PasswordRefused as refused:
        print(f"prewatt: {refused}; nothing was changed", file=sys.stderr)
        return REFUSED
    except DatabaseError as error:
        first = str(error).strip().partition("\n")[0]
        raise CannotRunError(f"the database refused, nothing was changed: {first}") from error
    finally:
        connection.close()
    print(f"{user.email} has a new password. Whoever was signed in with the old one no longer is.")
    return 0


def _forget(email: str) -> int:
    from django.db import connection

    from prewatt.access.models import User
    from prewatt.access.scope import system_actor
    from prewatt.sign_in.factors import forget

    try:
        user = User.objects.filter(email=email.strip().lower()).first()
        if user is None:
            print(f"prewatt: there is no login {email.strip()!r}", file=sys.stderr)
            return REFUSED
        had_one = forget(actor=system_actor("password"), user=user, now=wiring.now())
    finally:
        connection.close()
    print(
        f"{user.email} {'has' if had_one else 'had'} no second factor{' any more' if had_one else ''}."
    )
    return 0


def _read() -> str | None:
    """The password; None where it was not typed the same twice."""
    if not sys.stdin.isatty():
        # One line, so that `printf '%s\n'` and a file with an end of line mean the same.
        return sys.stdin.readline(4096).removesuffix("\n").removesuffix("\r")
    first = getpass.getpass("New password: ")
    return first if getpass.getpass("Once more: ") == first else None
