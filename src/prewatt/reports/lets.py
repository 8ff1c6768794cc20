"""Reads places let for a time: which run, which have ended, what each costs and what came back."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from prewatt.access.scope import Actor, require, scope
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.core.tariff import Tariff, parse_tariff
from prewatt.core.tariff.model import BoothUnit, Bound
from prewatt.core.temporary import deposit_micro, fee_micro
from prewatt.moves.let_debts import REASON as SHORTFALL
from prewatt.moves.let_debts import RECOVERED
from prewatt.reports.customers import Find, Picker, customers_to_choose
from prewatt.reports.holders import HOLDER_COLUMNS, HOLDER_JOINS, HOLDER_WIDTH, Who, who
from prewatt.reports.lists import Listing
from prewatt.reports.lists_query import PAGE, actor_names
from prewatt.reports.place import NoSuchThing, json_of, place_of, rows
from prewatt.reports.today import Place
from prewatt.reports.units import unit_name

LET_SHOWS: Final = ("running", "announced", "ended", "all")
LET_SORTS: Final = ("end", "begin", "unit", "balance", "refund")


@dataclass(frozen=True, slots=True)
class LetRow:
    """One let. ``refund_micro`` is 0 where nothing came back, ``refund_id`` then None. One that is
    announced has no ``begun_at``, and its wallet holds fee and deposit still.
    """

    let_id: int
    who: Who
    plan: str
    unit_of_time: BoothUnit
    begins_at: datetime
    ends_at: datetime
    units: int
    fee_micro: int
    deposit_micro: int
    closed_at: datetime | None
    close_reason: str
    available_micro: int
    refund_id: int | None
    refund_number: int | None
    refund_micro: int
    refund_paid_at: datetime | None
    fee_back_micro: int
    begun_at: datetime | None

    @property
    def announced(self) -> bool:
        """Whether it waits for its begin."""
        return self.begun_at is None and self.closed_at is None

    @property
    def for_energy_micro(self) -> int:
        """What the wallet has, or will have, beside fee and deposit."""
        kept = self.fee_micro + self.deposit_micro if self.announced else 0
        return self.available_micro - kept

    @property
    def account_id(self) -> int:
        """The account of the let."""
        return self.who.account_id


LetList = Listing[LetRow]


@dataclass(frozen=True, slots=True)
class Register:
    """A meter of a let place and what it reported last."""

    meter_id: int
    serial: str
    value_wh: int | None
    at: datetime | None


@dataclass(frozen=True, slots=True)
class LetMoney:
    """Where all that was paid for a let went, in micro-units; below zero: what came to it.

    Made of the account's transfers, each in one part: ``paid_micro`` is the sum of all parts, always.
    """

    paid_micro: int
    rent_micro: int
    deposit_micro: int
    charges_micro: int
    old_debts_micro: int
    lacked_micro: int
    other_micro: int
    rounding_micro: int
    refund_micro: int
    left_micro: int


@dataclass(frozen=True, slots=True)
class LetPage:
    """One let with what its end needs."""

    place: Place
    now: datetime
    let: LetRow
    begun_by: str
    closed_by: str
    registers: tuple[Register, ...]
    money: LetMoney

    @property
    def back(self) -> ComingBack:
        """What came back, by what it is of."""
        return coming_back(self.let, self.let.fee_back_micro, self.let.refund_micro)


@dataclass(frozen=True, slots=True)
class ComingBack:
    """A refund by what it is of; the parts are the refund. ``energy_micro`` is below zero where more
    was used than was prepaid, and the deposit pays it.
    """

    rent_micro: int
    deposit_micro: int
    energy_micro: int
    refund_micro: int


def coming_back(let: LetRow, fee_back_micro: int, refund_micro: int) -> ComingBack:
    """The parts of a let's refund. Of one that never began rent and deposit were never taken: they
    come back as far as they had been paid.
    """
    rent, deposit = fee_back_micro, let.deposit_micro
    if let.begun_at is None:
        rent = min(let.fee_micro, refund_micro)
        deposit = min(deposit, refund_micro - rent)
    return ComingBack(rent, deposit, refund_micro - rent - deposit, refund_micro)


@dataclass(frozen=True, slots=True)
class DatedLine:
    """A charge of a plan by the day, month or year, as the plan writes it."""

    label: str
    amount_nano: int
    per: str


@dataclass(frozen=True, slots=True)
class LetPlan:
    """A plan by which places are let, with all that it takes besides the energy."""

    code: str
    name: str
    unit_of_time: BoothUnit
    fee_micro: int
    deposit_micro: int
    season: tuple[int, int] | None
    dated: tuple[DatedLine, ...] = ()
    minimum: Bound | None = None


@dataclass(frozen=True, slots=True)
class VacantUnit:
    """A unit that can be let, with the registers it would begin at."""

    unit_id: int
    name: str
    kind: str
    registers: tuple[Register, ...]


@dataclass(frozen=True, slots=True)
class LetForm:
    """What a let can be made of."""

    place: Place
    now: datetime
    units: tuple[VacantUnit, ...]
    plans: tuple[LetPlan, ...]
    picker: Picker


_LETS = f"""
SELECT l.id, f.name, l.begins_at, l.ends_at, l.units, l.fee_micro, l.deposit_micro, l.closed_at,
       l.close_reason, s.available, l.refund_id, r.number, coalesce(r.amount_micro, 0), r.paid_at,
       coalesce(k.amount, 0)::bigint, v.content->'temporary'->>'unit', l.made_by, l.closed_by,
       l.unit_id, l.begun_at, {HOLDER_COLUMNS}
FROM temporary_let l
JOIN account a ON a.id = l.account_id
JOIN account_state s ON s.account_id = l.account_id
JOIN tariff_version v ON v.id = l.tariff_version_id
JOIN tariff f ON f.id = v.tariff_id
LEFT JOIN refund r ON r.id = l.refund_id
LEFT JOIN LATERAL (SELECT sum(t.amount) AS amount FROM transfer t
    WHERE t.account_id = l.account_id AND t.reason = 'let.fee.unstarted') k ON true
{HOLDER_JOINS.replace("coalesce(h.unit_id, a.unit_id)", "l.unit_id")}
WHERE l.property_id = %(property)s AND (%(let)s::bigint IS NULL OR l.id = %(let)s)
  AND (%(show)s = 'all' OR %(show)s = CASE WHEN l.closed_at IS NOT NULL THEN 'ended'
       WHEN l.begun_at IS NULL THEN 'announced' ELSE 'running' END)
ORDER BY l.ends_at, l.id
"""  # noqa: S608 - only our own constants are put in
_WHO_AT: Final = 20


def lets(
    *, actor: Actor, now: datetime, show: str = "running", query: str = "", sort: str = "end",
    limit: int = PAGE,
) -> LetList:  # fmt: skip
    """Running, announced, ended or all lets, found by text and sorted; the sum is of their deposits."""
    with scope(actor):
        place = place_of(actor)
        found = [_let(row) for row in _found(place, show=show, let_id=None)]
    found = [row for row in found if not query or row.who.matches(query) or query in row.plan]
    keys: dict[str, Any] = {
        "end": lambda row: row.closed_at or row.ends_at,
        "begin": lambda row: row.begins_at,
        "unit": lambda row: row.who.unit,
        "balance": lambda row: row.available_micro,
        "refund": lambda row: -row.refund_micro,
    }
    found.sort(key=keys[sort], reverse=show in ("ended", "all") and sort in ("end", "begin"))
    held = sum(row.deposit_micro for row in found if row.closed_at is None and row.begun_at)
    return LetList(place, now, tuple(found[:limit]), len(found), held)


def let_page(*, actor: Actor, let_id: int, now: datetime) -> LetPage:
    """One let and the registers of its place. Raises NoSuchThing."""
    with scope(actor):
        place = place_of(actor)
        found = _found(place, show="all", let_id=let_id)
        if not found:
            raise NoSuchThing(f"no let {let_id} in scope")
        row = found[0]
        names = actor_names([row[16], row[17]])
        registers = _registers(place, now, [row[18]])
        money = money_of_let(_let(row).account_id)
    return LetPage(
        place, now, _let(row), names.get(row[16], ""), names.get(row[17], ""),
        registers.get(row[18], ()), money,
    )  # fmt: skip


def money_of_let(account_id: int) -> LetMoney:
    """Where the money of a let's account went, inside the caller's scope."""
    sums: dict[str, int] = defaultdict(int)
    for kind, counter, reason, amount in rows(
        """SELECT kind, counter_account, reason, sum(amount)::bigint FROM transfer
           WHERE account_id = %s GROUP BY 1, 2, 3""",
        [account_id],
    ):
        sums[_part_of(TransferKind(kind), CounterAccount(counter), reason)] -= amount
    paid = -sums.pop("paid", 0)
    return LetMoney(
        paid_micro=paid, left_micro=paid - sum(sums.values()),
        **{f"{name}_micro": sums[name] for name in _PARTS},
    )  # fmt: skip


_PARTS: Final = (
    "rent", "deposit", "charges", "old_debts", "lacked", "other", "rounding", "refund",
)  # fmt: skip
_PAID: Final = (TransferKind.RECHARGE, TransferKind.OPENING, TransferKind.REVERSAL)
_CHARGED: Final = (TransferKind.USAGE, TransferKind.DAILY, TransferKind.CORRECTION)


def _part_of(kind: TransferKind, counter: CounterAccount, reason: str) -> str:
    """In which part of a let's money a transfer is."""
    if reason in ("let.fee", "let.fee.unstarted"):
        return "rent"
    if reason == RECOVERED:
        return "old_debts"
    if kind is TransferKind.DEBT or reason.startswith(f"{SHORTFALL}."):
        return "lacked"
    if kind is TransferKind.REFUND:
        return "rounding" if counter is CounterAccount.ROUNDING else "refund"
    if kind is TransferKind.DEPOSIT:
        return "deposit"
    return "paid" if kind in _PAID else "charges" if kind in _CHARGED else "other"


def let_form(*, actor: Actor, now: datetime, find: Find | None = None) -> LetForm:
    """Vacant units, plans in force that let for a time, and known customers to choose from."""
    require(actor, "moves.tenant")
    with scope(actor):
        place = place_of(actor)
        units = rows(
            """SELECT u.id, b.code, u.code, u.kind FROM unit u JOIN building b ON b.id = u.building_id
               WHERE u.property_id = %s AND u.kind <> 'plant' AND NOT EXISTS (
                   SELECT 1 FROM tenancy t WHERE t.unit_id = u.id AND upper_inf(t.period))
               ORDER BY u.kind <> 'booth', b.position, b.id, u.position, u.code""",
            [place.property_id],
        )
        registers = _registers(place, now, [row[0] for row in units])
        plans = _plans(place, now)
        picker = customers_to_choose(place, find or Find())
    return LetForm(
        place,
        now,
        tuple(
            VacantUnit(row[0], unit_name(row[1], row[2]), row[3], registers.get(row[0], ()))
            for row in units
        ),
        plans,
        picker,
    )


def _found(place: Place, *, show: str, let_id: int | None) -> list[tuple[Any, ...]]:
    return rows(_LETS, {"property": place.property_id, "show": show, "let": let_id})


def _let(row: tuple[Any, ...]) -> LetRow:
    return LetRow(
        let_id=row[0],
        who=who(row[_WHO_AT : _WHO_AT + HOLDER_WIDTH]),
        plan=row[1],
        unit_of_time=BoothUnit(row[15]),
        begins_at=row[2],
        ends_at=row[3],
        units=row[4],
        fee_micro=row[5],
        deposit_micro=row[6],
        closed_at=row[7],
        close_reason=row[8],
        available_micro=row[9],
        refund_id=row[10],
        refund_number=row[11],
        refund_micro=row[12],
        refund_paid_at=row[13],
        fee_back_micro=row[14],
        begun_at=row[19],
    )


def _plans(place: Place, now: datetime) -> tuple[LetPlan, ...]:
    found = rows(
        """SELECT DISTINCT ON (f.code) f.code, f.name, v.content FROM tariff f
           JOIN tariff_version v ON v.tariff_id = f.id AND v.valid_from <= %s
           WHERE f.property_id = %s ORDER BY f.code, v.valid_from DESC, v.id DESC""",
        [now, place.property_id],
    )
    plans = []
    for code, name, content in found:
        tariff = parse_tariff(json_of(content))
        plan = tariff.temporary
        if plan is not None:
            plans.append(
                LetPlan(
                    code,
                    name,
                    plan.unit,
                    fee_micro(plan, 1),
                    deposit_micro(plan),
                    plan.season,
                    _dated(tariff),
                    tariff.minimum,
                )
            )
    return tuple(plans)


def _dated(tariff: Tariff) -> tuple[DatedLine, ...]:
    return tuple(
        DatedLine(each.label or each.code, each.amount_nano, each.per.value)
        for each in tariff.dated
    )


def _registers(place: Place, now: datetime, unit_ids: list[int]) -> dict[int, tuple[Register, ...]]:
    found: dict[int, list[Register]] = {}
    for unit_id, meter_id, serial, value, at in rows(
        """SELECT e.unit_id, m.id, m.serial, w.last_value_wh,
                  CASE WHEN isfinite(w.last_at) THEN w.last_at END
           FROM metering_point e
           JOIN installation i ON i.metering_point_id = e.id AND i.period @> %s
           JOIN meter m ON m.id = i.meter_id
           LEFT JOIN meter_state w ON w.meter_id = m.id AND w.closed_at = 'infinity'
               AND w.register_code = 1
           WHERE e.property_id = %s AND e.unit_id = ANY(%s) ORDER BY e.id""",
        [now, place.property_id, unit_ids],
    ):
        found.setdefault(unit_id, []).append(Register(meter_id, serial, value, at))
    return {unit_id: tuple(each) for unit_id, each in found.items()}
