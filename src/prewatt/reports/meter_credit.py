"""Meters that sign, as pages show them: which hold their account's credit, their keys, what they were told and signed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from prewatt.access.scope import Actor, scope
from prewatt.core.instructions import Operation, Result, answer_address, command_address
from prewatt.core.vocabulary import InstructionState, RelayState, WalletEnd, WalletState
from prewatt.instructions.queries import ToldLine, told_and_answered
from prewatt.instructions.releases import unanswered
from prewatt.reports.lists import Listing
from prewatt.reports.lists_query import PAGE, actor_names
from prewatt.reports.paging import words
from prewatt.reports.place import NoSuchThing, place_of, rows
from prewatt.reports.today import Place
from prewatt.reports.units import unit_name

CREDIT_SHOWS: Final = ("all", "held", "releasing", "ended", "server", "no_key")
_ORDERS: Final = {
    "unit": "b_position NULLS LAST, building, unit, serial",
    "serial": "serial",
    "said": "verified_at NULLS FIRST, serial",
    "apart": "abs(balance_micro - expected_micro) DESC NULLS LAST, serial",
}
CREDIT_SORTS: Final = tuple(_ORDERS)
#: A meter's page shows so many of its instructions and of its former wallets.
_TOLD_SHOWN: Final = 20
_FORMER_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class CreditRow:
    """A meter that signs. ``state`` is held, releasing, ended or server (nobody ever put credit into it).

    ``balance_micro`` is what it signed last, ``expected_micro`` what it should have by the ledger; None where it holds none.
    """

    meter_id: int
    serial: str
    unit_id: int | None
    unit: str
    account_id: int | None
    number: str
    customer: str
    state: str
    has_key: bool
    balance_micro: int | None
    expected_micro: int | None
    on_way_micro: int
    verified_at: datetime | None
    refused: int
    differs: bool


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A public key of a meter; ``state`` is holds, ended or revoked."""

    key_id: str
    state: str
    valid_from: datetime
    valid_until: datetime | None
    revoked_at: datetime | None
    made_by: str


@dataclass(frozen=True, slots=True)
class SessionRow:
    """Keys of the short form that a meter behind LoRaWAN and the head-end agreed on; ``ended_why`` empty while they hold."""

    number: int
    begun_at: datetime
    ended_at: datetime | None
    ended_why: str


@dataclass(frozen=True, slots=True)
class StandingNow:
    """How a meter stands by the last answer of its that was verified."""

    sequence: int
    told_sequence: int
    credit_micro: int
    balance_micro: int | None
    refused: int
    said_at: datetime | None
    verified_at: datetime | None
    must_read: bool
    relay: RelayState


@dataclass(frozen=True, slots=True)
class WalletRow:
    """One time that the meter held an account's credit. ``because`` is a word of `WalletEnd`, empty while it does."""

    account_id: int
    number: str
    customer: str
    state: WalletState
    since: datetime
    because: str
    release_at: datetime | None
    release_by: str
    ended_at: datetime | None
    end_sequence: int | None
    end_balance_micro: int | None
    end_register_wh: int | None
    ended_by: str
    end_note: str


@dataclass(frozen=True, slots=True)
class SigningPage:
    """One meter with its keys or sessions, its standing, the credit in it and what it was told last.

    ``payer`` is the account that pays by it; ``is_case``: it was released and does not sign it.
    """

    place: Place
    now: datetime
    row: CreditRow
    keys: tuple[KeyRow, ...]
    sessions: tuple[SessionRow, ...]
    standing: StandingNow | None
    wallet: WalletRow | None
    former: tuple[WalletRow, ...]
    told: tuple[ToldLine, ...]
    payer: int | None
    is_protected: bool
    is_case: bool


#: A meter that signs, or once did; its account is the one whose credit it holds, else the one that pays by it.
_METERS: Final = """
WITH listed AS (
    SELECT m.id, m.serial, u.id AS unit_id, coalesce(b.code, '') AS building,
           coalesce(u.code, p.code, '') AS unit, b.position AS b_position, a.id AS account_id,
           coalesce(a.number, '') AS number, coalesce(c.name, '') AS customer,
           CASE w.state WHEN 1 THEN 'held' WHEN 2 THEN 'releasing' WHEN 3 THEN 'ended' ELSE 'server' END AS state,
           EXISTS (SELECT FROM meter_key k WHERE k.meter_id = m.id AND k.revoked_at IS NULL
                   AND k.valid_from <= %(now)s AND (k.valid_until IS NULL OR k.valid_until > %(now)s)) AS has_key,
           CASE WHEN w.state < 3 THEN s.balance_micro END AS balance_micro,
           CASE WHEN w.state = 1 AND w.told_micro > w.base_micro
                THEN t.available - (w.total_micro - w.told_micro) END AS expected_micro,
           CASE WHEN w.state = 1 THEN w.credit_micro - w.told_micro ELSE 0 END AS on_way_micro,
           s.verified_at, coalesce(s.refused, 0) AS refused,
           w.state = 1 AND coalesce((SELECT x.differs FROM meter_balance_check x
               WHERE x.meter_id = m.id AND x.account_id = w.account_id
               ORDER BY x.checked_at DESC LIMIT 1), false) AS differs
    FROM meter m
    LEFT JOIN LATERAL (SELECT i.metering_point_id FROM installation i WHERE i.meter_id = m.id
                       ORDER BY lower(i.period) DESC LIMIT 1) i ON true
    LEFT JOIN metering_point p ON p.id = i.metering_point_id
    LEFT JOIN unit u ON u.id = p.unit_id LEFT JOIN building b ON b.id = u.building_id
    LEFT JOIN LATERAL (SELECT * FROM meter_wallet WHERE meter_id = m.id ORDER BY id DESC LIMIT 1) w ON true
    LEFT JOIN instruction_state s ON s.meter_id = m.id
    LEFT JOIN account a ON a.id = coalesce(CASE WHEN w.state < 3 THEN w.account_id END, (
        SELECT y.account_id FROM meter_assignment y
        WHERE y.meter_id = m.id AND y.period @> %(now)s ORDER BY y.account_id LIMIT 1))
    LEFT JOIN customer c ON c.id = a.customer_id
    LEFT JOIN account_state t ON t.account_id = a.id
    WHERE m.property_id = %(property)s
      AND (EXISTS (SELECT FROM meter_key k WHERE k.meter_id = m.id) OR m.id = %(meter)s)
)
SELECT id, serial, unit_id, building, unit, account_id, number, customer, state, has_key, balance_micro,
       expected_micro, on_way_micro, verified_at, refused, coalesce(differs, false), count(*) OVER ()
FROM listed
"""


def credit_list(
    *,
    actor: Actor,
    now: datetime,
    show: str = CREDIT_SHOWS[0],
    query: str = "",
    sort: str = CREDIT_SORTS[0],
    limit: int = PAGE,
) -> Listing[CreditRow]:
    """The meters of a property that sign. Raises NoSuchThing, PermissionRefused."""
    with scope(actor):
        place = place_of(actor)
        found = rows(
            f"""{_METERS} WHERE CASE %(show)s WHEN 'all' THEN true WHEN 'no_key' THEN NOT has_key
                                ELSE state = %(show)s END
                  AND lower(concat_ws(' ', serial, building || '-' || unit, number, customer)) LIKE ALL (%(words)s)
                ORDER BY {_ORDERS[sort]} LIMIT %(limit)s""",
            {
                "property": place.property_id, "now": now, "meter": None, "show": show,
                "words": words(query), "limit": limit,
            },
        )  # fmt: skip
    total = int(found[0][-1]) if found else 0
    return Listing(place, now, tuple(_row(row) for row in found), total)


def _row(row: Sequence[Any]) -> CreditRow:
    meter_id, serial, unit_id, building, unit, *rest = row[:-1]
    return CreditRow(meter_id, serial, unit_id, unit_name(building, unit) if unit else "", *rest)


def signing_page(*, actor: Actor, meter_id: int, now: datetime) -> SigningPage:
    """One meter of the property; also one that has never had a key. Raises NoSuchThing, PermissionRefused."""
    with scope(actor):
        place = place_of(actor)
        found = rows(
            f"{_METERS} WHERE id = %(meter)s",
            {"property": place.property_id, "now": now, "meter": meter_id},
        )
        if not found:
            raise NoSuchThing(f"no meter {meter_id}")
        row = _row(found[0])
        wallets = _wallets(meter_id)
        names = actor_names([*(key[-1] for key in _keys(meter_id)), *_people(wallets)])
        payer, is_protected = _payer(meter_id, now)
        live = wallets[0] if wallets and wallets[0].state is not WalletState.ENDED else None
        return SigningPage(
            place, now, row,
            keys=tuple(_key(each, names, now) for each in _keys(meter_id)),
            sessions=_sessions(meter_id),
            standing=_standing(meter_id),
            wallet=None if live is None else _named(live, names),
            former=tuple(_named(each, names) for each in wallets if each is not live),
            told=tuple(told_and_answered(meter_id, row.serial, last=_TOLD_SHOWN)),
            payer=payer, is_protected=is_protected,
            is_case=any(each.meter_id == meter_id for each in unanswered(now=now)),
        )  # fmt: skip


def _payer(meter_id: int, now: datetime) -> tuple[int | None, bool]:
    found = rows(
        """SELECT a.account_id, coalesce(v.protection, '') <> '' FROM meter_assignment a
           LEFT JOIN supply_state v ON v.account_id = a.account_id
           WHERE a.meter_id = %s AND a.period @> %s::timestamptz ORDER BY a.account_id LIMIT 1""",
        [meter_id, now],
    )
    return (found[0][0], bool(found[0][1])) if found else (None, False)


def _keys(meter_id: int) -> list[tuple[Any, ...]]:
    return rows(
        """SELECT encode(key_id, 'hex'), valid_from, valid_until, revoked_at, made_by FROM meter_key
           WHERE meter_id = %s ORDER BY valid_from DESC, id DESC""",
        [meter_id],
    )


def _key(row: Sequence[Any], names: dict[str, str], now: datetime) -> KeyRow:
    key_id, valid_from, valid_until, revoked_at, made_by = row
    has_ended = valid_until is not None and valid_until <= now
    state = "revoked" if revoked_at else "ended" if has_ended else "holds"
    return KeyRow(key_id, state, valid_from, valid_until, revoked_at, names.get(made_by, ""))


def _sessions(meter_id: int) -> tuple[SessionRow, ...]:
    found = rows(
        """SELECT number, begun_at, ended_at, ended_why FROM instruction_session
           WHERE meter_id = %s ORDER BY number DESC LIMIT %s""",
        [meter_id, _FORMER_SHOWN],
    )
    return tuple(SessionRow(*each) for each in found)


def _standing(meter_id: int) -> StandingNow | None:
    found = rows(
        """SELECT s.known_sequence, s.last_sequence, s.credit_micro, s.balance_micro, s.refused, s.said_at,
                  s.verified_at, s.must_read, coalesce(l.relay, 0)
           FROM instruction_state s LEFT JOIN meter_link l ON l.meter_id = s.meter_id
           WHERE s.meter_id = %s""",
        [meter_id],
    )
    if not found:
        return None
    known, last, credit, balance, refused, said_at, verified_at, must_read, relay = found[0]
    return StandingNow(
        known, last, credit, balance, refused, said_at, verified_at, must_read, RelayState(relay)
    )


def _wallets(meter_id: int) -> list[WalletRow]:
    return [
        WalletRow(
            account, number, customer, WalletState(state), since,
            "" if because is None else WalletEnd(because).word, *rest,
        )
        for account, number, customer, state, since, because, *rest in rows(
            """SELECT w.account_id, a.number, coalesce(c.name, ''), w.state, w.since, w.because, w.release_at,
                      w.release_by, w.ended_at, w.end_sequence, w.end_balance_micro, w.end_register_wh,
                      w.ended_by, w.end_note
               FROM meter_wallet w JOIN account a ON a.id = w.account_id
               LEFT JOIN customer c ON c.id = a.customer_id
               WHERE w.meter_id = %s ORDER BY w.id DESC LIMIT %s""",
            [meter_id, _FORMER_SHOWN + 1],
        )
    ]  # fmt: skip


def _people(wallets: Sequence[WalletRow]) -> list[str]:
    return [name for each in wallets for name in (each.release_by, each.ended_by)]


def _named(wallet: WalletRow, names: dict[str, str]) -> WalletRow:
    return replace(
        wallet,
        release_by=names.get(wallet.release_by, ""),
        ended_by=names.get(wallet.ended_by, ""),
    )


#: How whoever has the file verifies what the meter signed, without us.
_HOW: Final = (
    "Each message is a COSE_Sign1 (RFC 9052) with ES256. Verify it by the meter's public key whose id it names (kid), with "
    "external_aad as the bytes of the text beside it. The payload is CBOR: fields under numbers from 1, in the order "
    "of core/instructions.py. An answer names the command by the SHA-256 of that command's Sig_structure."
)


def signed_file(*, actor: Actor, meter_id: int, sequence: int, now: datetime) -> dict[str, Any]:
    """One instruction with its bytes and all that is needed to verify the answer. Raises NoSuchThing."""
    with scope(actor):
        place = place_of(actor)
        found = rows(
            """SELECT m.serial, i.operation, i.argument, i.state, i.issued_at, i.expires_at, i.command,
                      i.command_hash, i.answer, i.result, i.answered_at
               FROM instruction i JOIN meter m ON m.id = i.meter_id
               WHERE i.meter_id = %s AND i.sequence = %s AND i.property_id = %s""",
            [meter_id, sequence, place.property_id],
        )
        keys = rows(
            """SELECT encode(key_id, 'hex'), public_key, valid_from, valid_until, revoked_at
               FROM meter_key WHERE meter_id = %s ORDER BY valid_from""",
            [meter_id],
        )
    if not found:
        raise NoSuchThing(f"no instruction {sequence} of meter {meter_id}")
    serial, operation, argument, state, issued, expires, command, name, answer, result, at = found[0]  # fmt: skip
    return {
        "meter": serial,
        "number": sequence,
        "operation": Operation(operation).name.lower(),
        "argument": argument,
        "state": InstructionState(state).word,
        "issued_at": issued.isoformat(),
        "expires_at": expires.isoformat(),
        "command": {
            "cose_sign1": bytes(command).hex(),
            "external_aad": command_address(serial).decode(),
            "sha256_of_sig_structure": bytes(name).hex(),
        },
        "answer": None
        if answer is None
        else {
            "cose_sign1": bytes(answer).hex(),
            "external_aad": answer_address(serial).decode(),
            "result": Result(result).name.lower(),
            "received_at": at.isoformat(),
        },
        "keys_of_the_meter": [
            {
                "kid": key_id,
                "subject_public_key_info": bytes(key).hex(),
                "valid_from": valid_from.isoformat(),
                "valid_until": valid_until and valid_until.isoformat(),
                "revoked_at": revoked_at and revoked_at.isoformat(),
            }
            for key_id, key, valid_from, valid_until, revoked_at in keys
        ],
        "how": _HOW,
    }
