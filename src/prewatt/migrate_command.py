"""`prewatt migrate`: brings the database of PREWATT_DSN (its owner's login) to the present schema."""

from __future__ import annotations

import argparse

from prewatt import wiring
from prewatt.runtime.state import state_directory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options: PREWATT_DSN says which database."""
    parser.set_defaults()


def run(_arguments: argparse.Namespace) -> int:
    """Migrate, raise the walls, make partitions ahead."""
    wiring.start_django()
    from prewatt.migrate import migrate

    migrate(passwords=wiring.role_passwords(state_directory()), today=wiring.now().date())
    print("The database is up to date.")
    return 0
