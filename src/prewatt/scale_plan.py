"""How the schema is laid over several machines with Citus, and what of it would not fit.

Citus is an operator's option and never a dependency. A *distributed* table is cut by one column, a
*reference* table stands whole on every machine, a *local* one on the coordinator alone. The rules that a
table must meet are Citus' own (Citus 13 documentation, "Creating and Modifying Distributed Objects"):
every unique constraint of a distributed table holds the distribution column; foreign keys lead from
distributed tables to reference tables or to tables cut alike; triggers are not allowed on them.

The plan is held against the catalog of a real database, so that a table that stops fitting is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

#: Cut by account: what one account's writer touches under its lock is on one machine.
BY_ACCOUNT: Final = (
    "account_state",
    "meter_state",
    "interval",
    "transfer",
    "posting",
    "demand_day",
    "bound_period",
    "archived_account",
)
#: Cut by meter: raw readings and links have no account that could not change.
BY_METER: Final = ("register_reading", "meter_link", "radio_link")
#: Cut by the key itself: a key is looked up whatever account it names.
BY_KEY: Final = ("idempotency",)
#: Small, read by every writer, changed by people: whole on every machine.
REFERENCE: Final = (
    "organisation",
    "legal_entity",
    "property",
    "ledger_period",
    "holiday_list",
    "calendar_day",
    "tariff",
    "tariff_version",
    "tariff_epoch",
    "supply_policy",
    "notify_policy",
    "debt_policy",
    "price_event",
    "price_series",
    "archived_partition",
)


class Cursor(Protocol):
    """What is needed of a database cursor."""

    def execute(self, query: Any, params: Any = None, /) -> Any:
        """Run one statement."""

    def fetchall(self) -> Any:
        """Return the rows of the last statement."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Statements in the order in which they run, tables that stay local, and what does not fit."""

    statements: tuple[str, ...]
    local: tuple[str, ...]
    misfits: tuple[str, ...]


def distribution() -> dict[str, str]:
    """The distribution column of each distributed table."""
    return (
        dict.fromkeys(BY_ACCOUNT, "account_id")
        | dict.fromkeys(BY_METER, "meter_id")
        | dict.fromkeys(BY_KEY, "key")
    )


def scale_plan(cursor: Cursor, *, shards: int) -> Plan:
    """The plan for the database of `cursor`, cut into `shards` (at least one for each core there is).

    Reads the catalog only. Raises ValueError for a number of shards that Citus does not take.
    """
    if not 1 <= shards <= 64_000:
        raise ValueError(f"Citus takes 1 to 64000 shards, not {shards}")
    cursor.execute(
        """SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
             AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY relname"""
    )
    tables = [str(row[0]) for row in cursor.fetchall()]
    placed = {*distribution(), *REFERENCE}
    return Plan(
        statements=tuple(_statements(shards)),
        local=tuple(name for name in tables if name not in placed),
        misfits=(
            *(f"{name}: there is no such table" for name in sorted(placed - set(tables))),
            *_unique_misfits(cursor),
            *_reference_misfits(cursor),
            *_trigger_misfits(cursor),
        ),
    )


def _statements(shards: int) -> Iterator[str]:
    yield "CREATE EXTENSION citus"
    yield f"SET citus.shard_count = {shards}"
    # A scope is set for one transaction; the machines must hear of it, or their policies show nothing.
    yield "ALTER ROLE ALL SET citus.propagate_set_commands = 'local'"
    for name in REFERENCE:
        yield f"SELECT create_reference_table('{name}')"
    groups = ((BY_ACCOUNT, "account_id"), (BY_METER, "meter_id"), (BY_KEY, "key"))
    for names, column in groups:
        for name in names:
            beside = "none" if name == names[0] else names[0]
            yield (
                f"SELECT create_distributed_table('{name}', '{column}', colocate_with => '{beside}')"
            )


def _unique_misfits(cursor: Cursor) -> list[str]:
    """Unique indexes of distributed tables without the distribution column."""
    columns = distribution()
    cursor.execute(
        """SELECT t.relname, i.relname,
                  array(SELECT attname FROM pg_attribute
                        WHERE attrelid = t.oid AND attnum = ANY (x.indkey))
           FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
           JOIN pg_class t ON t.oid = x.indrelid
           WHERE x.indisunique AND t.relname = ANY (%s) ORDER BY 1, 2""",
        [list(columns)],
    )
    return [
        f"{table}: its unique index {index} does not hold {columns[table]}"
        for table, index, held in cursor.fetchall()
        if columns[table] not in held
    ]


def _reference_misfits(cursor: Cursor) -> list[str]:
    """Foreign keys that would lead from one machine to another."""
    cut = distribution()
    cursor.execute(
        """SELECT a.relname, b.relname, c.conname FROM pg_constraint c
           JOIN pg_class a ON a.oid = c.conrelid JOIN pg_class b ON b.oid = c.confrelid
           WHERE c.contype = 'f' AND (a.relname = ANY (%s) OR b.relname = ANY (%s)) ORDER BY 1, 3""",
        [list(cut), list(cut)],
    )
    return [
        f"{source}: its foreign key {name} leads to {target}"
        for source, target, name in cursor.fetchall()
        if target not in REFERENCE and cut.get(source) != cut.get(target)
    ]


def _trigger_misfits(cursor: Cursor) -> list[str]:
    cursor.execute(
        """SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
           WHERE NOT t.tgisinternal AND c.relname = ANY (%s) ORDER BY 1, 2""",
        [list(distribution())],
    )
    return [f"{table}: it has the trigger {name}" for table, name in cursor.fetchall()]


def shown(lines: Sequence[str]) -> str:
    """Statements as SQL text."""
    return "".join(f"{line};\n" for line in lines)
