"""A real PostgreSQL for the tests: one throw-away server, one fresh database for each test.

``./run check`` starts the server and names it in ``PREWATT_TEST_DSN``, and the migrated template in
``PREWATT_TEST_TEMPLATE``; without them the session makes its own. The template is copied for each test
that asks for ``database``, so tests commit for real and never see each other's rows.
"""

from __future__ import annotations

import gc
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import django
import pytest
from hypothesis import settings
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from brokers import amqtt, broker, broker_folder, mosquitto  # noqa: F401 - fixtures for all
from cases import cases
from databases import TestDatabases
from django_sessions import forget_all, leave_database, use_database
from lanes import pytest_configure  # noqa: F401 - a hook
from prewatt.check import DSN_VARIABLE, TEMPLATE_VARIABLE
from prewatt.cli import LOOKS_FOR_GARBAGE
from template import ROLE_PASSWORD, make_template

# As every process of the program has it: what is imported stays.
gc.set_threshold(*LOOKS_FOR_GARBAGE)
os.environ.setdefault("PREWATT_SECRET_KEY", "test-key-of-no-value")
os.environ.setdefault("PREWATT_FACTOR_KEYS", "bm9ib2R5IGlzIHByb3RlY3RlZCBieSB0aGlzIGtleSE=")
os.environ["DJANGO_SETTINGS_MODULE"] = "prewatt.settings"

# Checks live outside test files and still explain what they found. Said here, before anything imports
# them: which test file is collected first must not matter.
pytest.register_assert_rewrite(
    "tests.invariants.checks",
    "tests.invariants.full_checks",
    "tests.invariants.places",
    "tests.invariants.stories",
)

# A random test that says no number of its own tries a share of Hypothesis's usual hundred as well.
settings.register_profile("checks", max_examples=cases(100))
settings.load_profile("checks")

# Models are imported at the top of test files, which pytest collects before any fixture runs.
django.setup()


def pytest_collection_finish() -> None:
    """Spare the collector what stays until the end anyway: modules, tests, and what they were made of."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """The owner's DSN of a throw-away server (database ``postgres``)."""
    given = os.environ.get(DSN_VARIABLE)
    if given:
        yield given
        return
    from prewatt.runtime.embedded_postgres import throwaway_postgres

    with ExitStack() as stack:
        yield stack.enter_context(throwaway_postgres(fsync=False))


@pytest.fixture(scope="session")
def template_database(postgres_dsn: str) -> str:
    """The name of a migrated, walled database without rows."""
    given = os.environ.get(TEMPLATE_VARIABLE)
    if given:
        return given
    name = f"template_{secrets.token_hex(4)}"
    make_template(postgres_dsn, name)
    return name


@pytest.fixture(scope="session")
def test_databases(postgres_dsn: str, template_database: str) -> Iterator[TestDatabases]:
    """Where each test gets its database from."""
    with closing(TestDatabases(postgres_dsn, template_database)) as databases:
        yield databases
    forget_all()


@pytest.fixture
def database(test_databases: TestDatabases) -> Iterator[str]:
    """A migrated database without rows; yields its owner's DSN, Django already uses it."""
    dsn = test_databases.take()
    use_database(dsn)
    yield dsn
    leave_database()
    test_databases.give_back(dsn)


def role_dsn(owner_dsn: str, role: str) -> str:
    """The DSN of a login role of ``walls.LOGINS`` on the same database."""
    parts = conninfo_to_dict(owner_dsn) | {"user": role, "password": ROLE_PASSWORD}
    return make_conninfo(**parts)


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test reach another machine by accident."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if self.family in {socket.AF_INET, socket.AF_INET6} and not (
            host in {"localhost", "::1"} or host.removeprefix("::ffff:").startswith("127.")
        ):
            raise AssertionError(f"a test wants to connect to {host}; only loopback is allowed")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
