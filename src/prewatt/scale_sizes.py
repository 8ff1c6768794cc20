"""How large a database grows: bytes for a meter, a reading, an account's day and a sale, and what follows.

The bytes are those of a real database, indexes and dead rows included, so they are worth what is in it:
the demo's ninety days, or a city of `prewatt bench`. What is a reading's and what is a day's is a matter
of the schema and is written here; how many rows each has is counted. The processor's time is no property
of a database: it is an assumption, measured by `prewatt bench`, and printed with what follows from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

#: Rows that exist once or a few times for each meter, however long it has been there.
PER_METER: Final = (
    "unit",
    "metering_point",
    "meter",
    "installation",
    "customer",
    "account",
    "tenancy",
    "meter_assignment",
    "account_state",
    "meter_state",
    "meter_link",
    "radio_link",
    "supply_state",
    "tariff_assignment",
    "account_terms",
)
#: Rows that come with each reading and leave for the archive.
PER_READING: Final = ("register_reading", "interval")
#: Rows that come with each posting of an account, once a day, and stay.
PER_DAY: Final = ("transfer", "posting", "demand_day", "bound_period")
#: Rows that come with each payment, and with the warnings, cuts and receipts between two of them.
PER_SALE: Final = (
    "payment",
    "document",
    "idempotency",
    "audit_event",
    "message",
    "message_attempt",
    "supply_decision",
    "supply_order",
)
#: The kinds, their tables, and the table whose rows they are counted by.
KINDS: Final = (
    ("meter", PER_METER, "meter"),
    ("reading", PER_READING, "register_reading"),
    ("account's day", PER_DAY, "posting"),
    ("sale", PER_SALE, "payment"),
)
_DAYS_OF_A_MONTH: Final = 30
_SECONDS_OF_A_DAY: Final = 86_400


class Cursor(Protocol):
    """What is needed of a database cursor."""

    def execute(self, query: Any, params: Any = None, /) -> Any:
        """Run one statement."""

    def fetchall(self) -> Any:
        """Return the rows of the last statement."""


@dataclass(frozen=True, slots=True)
class TableSize:
    """A table with all its partitions: rows as of its last ANALYZE, bytes of rows and of indexes."""

    name: str
    rows: int
    heap_bytes: int
    index_bytes: int

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.heap_bytes + self.index_bytes


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What the database cannot say: how the meters are read, and what a reading costs a processor."""

    readings_a_day: int = 96
    keep_months: int = 24
    sales_a_month: int = 4
    cpu_us_a_reading: float = 30.0
    cpu_ms_a_posting: float = 1.0
    wal_bytes_a_reading: int = 1_300

    def __post_init__(self) -> None:
        if not 1 <= self.readings_a_day <= 1_440:
            raise ValueError(f"a meter is read 1 to 1440 times a day, not {self.readings_a_day}")
        if self.keep_months < 4:
            raise ValueError(
                f"months of readings are kept for at least 4 (they can be corrected), not {self.keep_months}"
            )


@dataclass(frozen=True, slots=True)
class Need:
    """What so many meters need. Bytes on disk, processors kept busy, readings a second on average."""

    meters: int
    readings_a_second: float
    cores: float
    state_bytes: int
    readings_bytes: int
    ledger_bytes_a_year: int
    wal_bytes_a_day: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """Tables of each kind, bytes for one of its kind, and the tables of no kind (they do not grow so)."""

    tables: Mapping[str, Sequence[TableSize]]
    bytes_each: Mapping[str, float]
    counted: Mapping[str, int]
    others: Sequence[TableSize] = field(default=())

    def need(self, meters: int, given: Assumptions) -> Need:
        """What `meters` need under `given`; kinds that the database has none of count nothing."""
        readings = meters * given.readings_a_day
        days = given.keep_months * _DAYS_OF_A_MONTH
        ledger = meters * (
            365 * self.bytes_each["account's day"]
            + 12 * given.sales_a_month * self.bytes_each["sale"]
        )
        busy_s = (readings * given.cpu_us_a_reading + meters * given.cpu_ms_a_posting * 1e3) / 1e6
        return Need(
            meters=meters,
            readings_a_second=readings / _SECONDS_OF_A_DAY,
            cores=busy_s / _SECONDS_OF_A_DAY,
            state_bytes=int(meters * self.bytes_each["meter"]),
            readings_bytes=int(readings * days * self.bytes_each["reading"]),
            ledger_bytes_a_year=int(ledger),
            wal_bytes_a_day=readings * given.wal_bytes_a_reading,
        )


def sizes_of(cursor: Cursor) -> Sizes:
    """Measure the database of `cursor`; reads the catalog only, so run ANALYZE first."""
    cursor.execute(
        """SELECT root.relname,
                  sum(greatest(leaf.reltuples, 0))::bigint,
                  sum(pg_table_size(leaf.oid))::bigint,
                  sum(pg_indexes_size(leaf.oid))::bigint
           FROM pg_class root
           CROSS JOIN LATERAL (
               SELECT coalesce(tree.relid, root.oid::regclass) AS relid
               FROM (SELECT 1) AS one LEFT JOIN pg_partition_tree(root.oid) AS tree ON tree.isleaf
           ) AS part
           JOIN pg_class leaf ON leaf.oid = part.relid
           WHERE root.relnamespace = 'public'::regnamespace AND root.relkind IN ('r', 'p')
             AND NOT root.relispartition
           GROUP BY root.relname ORDER BY root.relname"""
    )
    return _sorted_by_kind([TableSize(*row) for row in cursor.fetchall()])


def _sorted_by_kind(tables: Sequence[TableSize]) -> Sizes:
    by_name = {table.name: table for table in tables}
    of_kind: dict[str, list[TableSize]] = {}
    each: dict[str, float] = {}
    counted: dict[str, int] = {}
    for kind, names, counted_by in KINDS:
        of_kind[kind] = [by_name[name] for name in names if name in by_name]
        counted[kind] = by_name[counted_by].rows if counted_by in by_name else 0
        total = sum(table.bytes for table in of_kind[kind])
        each[kind] = total / counted[kind] if counted[kind] else 0.0
    placed = {name for _, names, _ in KINDS for name in names}
    return Sizes(of_kind, each, counted, [table for table in tables if table.name not in placed])


def shown(sizes: Sizes, needs: Sequence[Need], given: Assumptions) -> str:
    """The tables, and what follows, as text."""
    lines = [f"{'':<18}{'rows':>14}{'rows, B each':>14}{'indexes, B':>12}"]
    for kind, tables in sizes.tables.items():
        lines.append(
            f"a {kind}: {sizes.bytes_each[kind]:,.0f} bytes"
            if sizes.counted[kind]
            else f"a {kind}: there is none in this database"
        )
        lines += [
            f"  {table.name:<16}{table.rows:>14,}{table.heap_bytes / table.rows:>14,.0f}"
            f"{table.index_bytes / table.rows:>12,.0f}"
            for table in tables
            if table.rows
        ]
    lines += ["", *_what_follows(needs, given)]
    return "\n".join(lines) + "\n"


def _what_follows(needs: Sequence[Need], given: Assumptions) -> list[str]:
    assumed = (
        f"read {given.readings_a_day} times a day",
        f"readings kept {given.keep_months} months",
        f"{given.sales_a_month} sales a month",
        f"{given.cpu_us_a_reading:g} µs of a processor for a reading",
        f"{given.cpu_ms_a_posting:g} ms for a day's posting",
        f"{given.wal_bytes_a_reading:,} bytes of WAL a reading",
    )
    head = ("meters", "readings/s", "cores busy", "state", "readings", "ledger/year", "WAL/day")
    rows = [
        (
            f"{need.meters:,}",
            f"{need.readings_a_second:,.0f}",
            f"{need.cores:.2f}",
            _readable(need.state_bytes),
            _readable(need.readings_bytes),
            _readable(need.ledger_bytes_a_year),
            _readable(need.wal_bytes_a_day),
        )
        for need in needs
    ]
    return [
        f"{', '.join(assumed)}:",
        *("".join(f"{cell:>13}" for cell in row) for row in (head, *rows)),
    ]


def _readable(size: int) -> str:
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:,.0f} {unit}"
        amount /= 1000
    return f"{amount:,.1f} TB"
