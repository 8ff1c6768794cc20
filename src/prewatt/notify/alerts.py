"""The alerts there are: what each is about, and whether the system ends it by itself.

Codes are stored and never renamed. `raise_alert` takes none that is not named here, as mypy says, and
a test of the pages asks for a sentence in every language for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

AlertCode = Literal[
    "supply.usage_while_open",
    "meter.tamper",
    "meter.foreign_answer",
    "meter.forged",
    "meter.session_ended",
    "meter.balance_differs",
    "meter.not_released",
    "meter.isolated",
    "supply.relay_departed",
    "supply.relay_stuck",
    "supply.command_refused",
    "supply.brake",
    "notify.unreachable",
    "billing.no_tariff",
    "billing.correction_too_old",
    "billing.posting_failed",
    "billing.rerating_failed",
    "billing.rebates_failed",
    "billing.held_failed",
    "moves.let_not_closed",
    "moves.let_not_begun",
    "audit.past_program",
    "approvals.emergency",
    "signing.key_alone",
    "meter.never_heard",
    "concentrator.silent",
    "concentrator.isolated",
    "meter.clock_unmended",
    "fleet.bulk_braked",
]
#: All of them, in the order in which they are offered.
CODES: Final[tuple[AlertCode, ...]] = get_args(AlertCode)

USED_WHILE_OPEN: Final = "supply.usage_while_open"
TAMPER: Final = "meter.tamper"
FOREIGN_ANSWER: Final = "meter.foreign_answer"
FORGED: Final = "meter.forged"
SESSION_ENDED: Final = "meter.session_ended"
BALANCE_DIFFERS: Final = "meter.balance_differs"
NOT_RELEASED: Final = "meter.not_released"
ISOLATED: Final = "meter.isolated"
NEVER_HEARD: Final = "meter.never_heard"
CONCENTRATOR_SILENT: Final = "concentrator.silent"
CONCENTRATOR_ISOLATED: Final = "concentrator.isolated"
DEPARTED: Final = "supply.relay_departed"
RELAY_STUCK: Final = "supply.relay_stuck"
COMMAND_REFUSED: Final = "supply.command_refused"
BRAKE: Final = "supply.brake"
CLOCK_UNMENDED: Final = "meter.clock_unmended"
BULK_BRAKED: Final = "fleet.bulk_braked"
UNREACHABLE: Final = "notify.unreachable"
NO_TARIFF: Final = "billing.no_tariff"
CORRECTION_TOO_OLD: Final = "billing.correction_too_old"
POSTING_FAILED: Final = "billing.posting_failed"
RERATING_FAILED: Final = "billing.rerating_failed"
REBATES_FAILED: Final = "billing.rebates_failed"
HELD_FAILED: Final = "billing.held_failed"
LET_NOT_CLOSED: Final = "moves.let_not_closed"
LET_NOT_BEGUN: Final = "moves.let_not_begun"
PAST_PROGRAM: Final = "audit.past_program"
EMERGENCY: Final = "approvals.emergency"
KEY_ALONE: Final = "signing.key_alone"

#: What the subject of an alert names: ``meter:4410``, ``concentrator:3``, ``account:17``, ``bulk:4``, ``property:1``.
SUBJECTS: Final[
    Mapping[AlertCode, Literal["meter", "concentrator", "account", "bulk", "property"]]
] = {
    USED_WHILE_OPEN: "meter",
    TAMPER: "meter",
    FOREIGN_ANSWER: "meter",
    FORGED: "meter",
    SESSION_ENDED: "meter",
    BALANCE_DIFFERS: "meter",
    NOT_RELEASED: "meter",
    ISOLATED: "meter",
    NEVER_HEARD: "meter",
    CONCENTRATOR_SILENT: "concentrator",
    CONCENTRATOR_ISOLATED: "concentrator",
    DEPARTED: "meter",
    RELAY_STUCK: "meter",
    COMMAND_REFUSED: "meter",
    BRAKE: "property",
    UNREACHABLE: "account",
    NO_TARIFF: "account",
    CORRECTION_TOO_OLD: "account",
    POSTING_FAILED: "property",
    RERATING_FAILED: "property",
    REBATES_FAILED: "property",
    HELD_FAILED: "property",
    LET_NOT_CLOSED: "account",
    LET_NOT_BEGUN: "account",
    PAST_PROGRAM: "property",
    EMERGENCY: "property",
    KEY_ALONE: "property",
    CLOCK_UNMENDED: "meter",
    BULK_BRAKED: "bulk",
}
#: Alerts that nothing but a person ends: whatever they tell of is past, and somebody has to have looked.
PERSONS: Final[frozenset[AlertCode]] = frozenset(
    {TAMPER, FOREIGN_ANSWER, FORGED, SESSION_ENDED, CORRECTION_TOO_OLD, PAST_PROGRAM, KEY_ALONE}
)
