"""A small estate to send messages to, and channels that answer as a test tells them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from django.db import connection, transaction

from prewatt.access.scope import system_actor
from prewatt.estate.models import (
    Account,
    Building,
    Customer,
    LegalEntity,
    Organisation,
    Property,
    Tenancy,
    Unit,
)
from prewatt.notify.operations import NewMessage, deliver_due, enqueue
from prewatt.notify.ports import Channel, Contact, Rendered, SendOutcome, Sent

#: A Tuesday afternoon in Berlin, far from quiet hours.
NOON = datetime(2026, 11, 17, 13, 30, tzinfo=UTC)
ACTOR = system_actor("notify")


def make_property(
    code: str = "LIN", zone: str = "Europe/Berlin", currency: str = "EUR"
) -> Property:
    """A property with one building, of an organisation of its own."""
    organisation = Organisation.objects.create(name=f"Organisation {code}")
    entity = LegalEntity.objects.create(organisation=organisation, name=f"Entity {code}")
    made = Property.objects.create(
        organisation=organisation,
        legal_entity=entity,
        code=code,
        name="Linden Court",
        currency=currency,
        time_zone=zone,
    )
    Building.objects.create(property=made, code="A", name="House A")
    return made


def make_account(
    place: Property,
    number: str = "1001",
    *,
    name: str = "Ada Kern",
    email: str = "ada@example.org",
    language: str = "en",
) -> Account:
    """A customer's account with an open tenancy in a unit named after it."""
    customer = Customer.objects.create(property=place, name=name, email=email, language=language)
    account = Account.objects.create(
        property=place,
        number=number,
        kind=Account.Kind.CUSTOMER,
        customer=customer,
        opened_at=NOON - timedelta(days=90),
    )
    unit = make_unit(place, f"U{number}")
    Tenancy.objects.create(
        property=place,
        unit=unit,
        customer=customer,
        account=account,
        period=(NOON - timedelta(days=90), None),
    )
    return account


def make_unit(place: Property, code: str) -> Unit:
    """A flat in the property's only building."""
    building = Building.objects.get(property=place)
    return Unit.objects.create(property=place, building=building, code=code, kind=Unit.Kind.FLAT)


def warning(account: Account, key: str = "level:1", **more: object) -> NewMessage:
    """A low-balance warning as supply composes it."""
    detail = {
        "level_kind": "money",
        "level_no": 1,
        "available_micro": 4_200_000,
        "emergency_micro": 5_000_000,
        "days_left_h": 52,
        "currency": "EUR",
        "earliest_cut_us": None,
    }
    urgent = bool(more.pop("urgent", False))
    return NewMessage(
        property_id=account.property_id,
        account_id=account.pk,
        code="supply.warning",
        detail=detail | more,
        dedupe_key=key,
        urgent=urgent,
    )


def receipt(account: Account, key: str = "recharge:1") -> NewMessage:
    """What a customer is told of a recharge, as vending composes it."""
    return NewMessage(
        property_id=account.property_id,
        account_id=account.pk,
        code="vending.recharged",
        detail={"amount_micro": 20_000_000, "available_micro": 24_200_000, "receipt": 17},
        dedupe_key=key,
    )


def put(*messages: NewMessage, now: datetime = NOON) -> int:
    """Enqueue as an operation would, inside its transaction."""
    with transaction.atomic():
        return enqueue(messages=messages, now=now)


def deliver(*channels: Channel, now: datetime = NOON) -> int:
    """One pass of the worker."""
    return deliver_due(actor=ACTOR, channels=channels, now=now)


@dataclass
class ScriptedChannel:
    """Answers as told, in turn, then goes on with the last answer; remembers what it was given."""

    answers: Sequence[SendOutcome | Exception] = (Sent(),)
    name: str = "email"
    wakes: bool = False
    address: Callable[[Contact], str] = lambda contact: contact.email
    pause: Callable[[], None] = lambda: None
    sent: list[Rendered] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def address_of(self, contact: Contact) -> str:
        """The contact's e-mail unless the test says otherwise."""
        return self.address(contact)

    def send(self, rendered: Rendered) -> SendOutcome:
        """Refuses to be called inside a transaction: that is the rule under test everywhere."""
        assert not connection.in_atomic_block, "the network was spoken to inside a transaction"
        self.pause()
        with self._lock:
            answer = self.answers[min(len(self.sent), len(self.answers) - 1)]
            self.sent.append(rendered)
        if isinstance(answer, Exception):
            raise answer
        return answer
