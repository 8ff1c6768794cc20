"""What is asked of selling and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from prewatt.access.scope import Actor
from prewatt.audit.context import Origin, origin


@dataclass(frozen=True, slots=True)
class Recharge:
    """One recharge asked for. ``key`` is the caller's idempotency key, ``amount`` in micro-units."""

    key: str
    account_id: int
    amount: int
    way: str
    reference: str
    paid_at: datetime


@dataclass(frozen=True, slots=True)
class Recharged:
    """A recharge that stands: stored with its key, and given again to whoever repeats it.

    Of ``amount``, ``collected`` went to charges that the tariff collects with a recharge and
    ``debt`` to agreed debts; ``queries.deducted_of`` has them line by line.
    """

    key: str
    account_id: int
    event_id: int
    amount: int
    receipt_number: int
    available_after: int
    accepted_at: str
    repeated: bool = False
    collected: int = 0
    debt: int = 0


@dataclass(frozen=True, slots=True)
class RechargeRefused:
    """A recharge that did not happen: a stable ``code`` and a sentence saying what to do."""

    key: str
    code: str
    message: str


Answer = Recharged | RechargeRefused


@dataclass(frozen=True, slots=True)
class Ask:
    """Who asks for which recharge. Nobody acts with another's rights, whoever else is in the set."""

    actor: Actor
    wish: Recharge
    #: Of who asked: the desk that sells it serves many requests at once.
    origin: Origin = field(default_factory=origin)
