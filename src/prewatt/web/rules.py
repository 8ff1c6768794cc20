"""What each address asks of who comes: the permission to look, and the permission to do.

The session's middleware asks for it before any view runs, and of a program `api.bearer` as it shows its
key; an address that is not written here is shut to everybody. It is the outer of three walls: operations and queries ask again for themselves, and
the database a third time. `prewatt access` makes the access matrix out of this and holds it to the views.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from prewatt.access.models import Duty

#: Needs nobody; anybody who is signed in.
NOBODY, ANYBODY = "nobody", "anybody"
#: Below it stands what programs ask, by their keys and never by a session.
API: Final = "api/v1/"
SAFE: Final = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Rule:
    """``read`` is asked of a look, ``write`` of a deed; without ``write`` an address takes no form.

    Permissions stand apart by a space where more than one is asked. Of a program, without ``read`` there is
    nothing to look at.
    """

    read: str
    write: str = ""

    def wanted(self, method: str | None) -> str:
        """What a request of this method is asked for; empty where there is none of the kind."""
        return self.read if method in SAFE else self.write


_LOOK = Rule("accounts.read")
#: A person's own sign-in, whatever their duty; and what is needed before anybody is known.
_PERSON, _STRANGER = Rule(ANYBODY, ANYBODY), Rule(NOBODY, NOBODY)


def _deed(write: str) -> Rule:
    """A page that every reader of accounts sees, with a form that not every one may send."""
    return Rule("accounts.read", write)


def _own(permission: str) -> Rule:
    """A page that is nothing but its form."""
    return Rule(permission, permission)


RULES: Final[Mapping[str, Rule]] = {
    "": _LOOK,
    "today": _LOOK,
    "mine": Rule("mine.read"),
    "figures": Rule("figures.read"),
    "work": Rule("meters.read"),
    "work/<id:meter_id>": Rule("meters.read", "mdm.read_manually"),
    "work/new": _own("estate.meters"),
    "work/table": _own("estate.meters"),
    # How long devices may be silent is set there, by an administrator.
    "work/fitted": Rule("meters.read", "estate.write"),
    "work/<id:meter_id>/exchange": _own("estate.meters"),
    "work/cases": Rule("meters.read"),
    "work/cases/<id:tamper_id>": Rule("meters.read", "tamper.note"),
    "work/<id:meter_id>/check": Rule("meters.read", "estate.meters"),
    "audit": Rule("audit.read"),
    "audit.csv": Rule("audit.read"),
    "audit.zip": Rule("audit.read"),
    "audit/<id:event_id>": Rule("audit.read"),
    "audit/people": Rule("audit.read"),
    "audit/people/<id:user_id>": Rule("audit.read"),
    "audit/of/<str:kind>:<id:number>": Rule("audit.read"),
    "audit/findings": Rule("audit.read"),
    "audit/findings.csv": Rule("audit.read"),
    "audit/findings/<id:finding_id>": Rule("audit.read", "audit.watch"),
    "audit/watches": Rule("audit.read"),
    "audit/watches/new/<str:kind>": Rule("audit.read", "audit.watch"),
    "audit/watches/<id:watch_id>": Rule("audit.read", "audit.watch"),
    "alerts": _LOOK,
    "alerts.csv": _LOOK,
    "alerts/<id:alert_id>": _deed("notify.close_alert"),
    "accounts": _LOOK,
    "accounts.csv": _LOOK,
    "customers/pick/<str:name>": Rule("moves.tenant"),
    "accounts/former": _LOOK,
    "accounts/<id:account_id>": _LOOK,
    "accounts/<id:account_id>/recharge": _own("vending.recharge"),
    "accounts/<id:account_id>/charges/<id:event_id>/<str:kind>/<str:day>": _LOOK,
    "units": _LOOK,
    "units.csv": _LOOK,
    "units/<id:unit_id>": _LOOK,
    "units/<id:unit_id>/move/<str:deed>": _own("moves.tenant"),
    "units/<id:unit_id>/hand-over": Rule("moves.tenant"),
    "property": _LOOK,
    "accounts/<id:account_id>/protection": _own("supply.protect"),
    "accounts/<id:account_id>/credit": _own("vending.credit"),
    "accounts/<id:account_id>/by-hand": _own("supply.protect"),
    "accounts/<id:account_id>/sign-in": _own("tenants.link"),
    "accounts/<id:account_id>/terms": _deed("billing.terms"),
    "accounts/<id:account_id>/file": _own("approvals.propose"),
    "accounts/plans": _own("approvals.propose"),
    "accounts/<id:account_id>/plan": _own("approvals.propose"),
    "accounts/<id:account_id>/correct-tariff": _own("billing.correct"),
    "accounts/<id:account_id>/debts/new": _own("debts.manage"),
    "recharges/<id:event_id>": _LOOK,
    "recharges/<id:event_id>/take-back": _deed("vending.take_back"),
    "supply": _LOOK,
    "meters": _LOOK,
    "meters/fleet": _LOOK,
    "meters/fleet.csv": _LOOK,
    "meters/orders": _deed("fleet.ask"),
    "meters/orders.csv": _LOOK,
    "meters/bulks": _LOOK,
    "meters/bulks/new": _own("fleet.ask approvals.propose"),
    "meters/bulks/<id:bulk_id>": _deed("fleet.ask"),
    "meters/<id:meter_id>": _deed("fleet.ask"),
    "meters/credit": _LOOK,
    "meters/credit.csv": _LOOK,
    "meters/<id:meter_id>/credit": _deed("estate.write"),
    "meters/<id:meter_id>/credit/<id:sequence>": _LOOK,
    "meters/cases": _LOOK,
    "meters/cases.csv": _LOOK,
    "meters/cases/<id:tamper_id>": _deed("tamper.close"),
    "meters/feed-in": _deed("tamper.feed_in"),
    "meters/certificates": Rule("meters.read"),
    "meters/certificates.csv": Rule("meters.read"),
    "meters/certificates/<str:serial>/code": _own("devices.enrol"),
    "meters/certificates/<str:serial>/revoke": _own("devices.revoke"),
    "meters/concentrators": Rule("meters.read"),
    "meters/concentrators/new": _own("estate.concentrators"),
    "meters/concentrators/<id:concentrator_id>": Rule("meters.read", "estate.concentrators"),
    "meters/held": _LOOK,
    "meters/held.csv": _LOOK,
    "meters/held/<id:case_id>": _deed("mdm.release"),
    "meters/<id:meter_id>/held": _deed("mdm.release"),
    # Its figures are an account's; an installer has a page of their own.
    "meters/<id:meter_id>/read": _own("accounts.read mdm.read_manually"),
    "meters/<id:meter_id>/correct": _own("mdm.edit"),
    "meters/<id:meter_id>/exchange": _own("estate.write"),
    "tariffs": _LOOK,
    "tariffs.csv": _LOOK,
    "tariffs/new": _own("billing.draft"),
    "tariffs/announced": _deed("billing.announce"),
    "tariffs/announced.csv": _LOOK,
    "tariffs/announced/<id:event_id>/withdraw": _own("billing.announce"),
    "tariffs/rules": _deed("billing.resale"),
    "tariffs/drafts/<str:code>": _deed("billing.draft"),
    "tariffs/drafts/<str:code>/trial": _deed("billing.draft"),
    "tariffs/drafts/<str:code>/trial.csv": _LOOK,
    "tariffs/drafts/<str:code>/propose": _own("approvals.propose"),
    "approvals": _LOOK,
    "approvals.csv": _LOOK,
    "approvals/limits": _LOOK,
    "approvals/limits/<str:kind>": _own("approvals.propose"),
    # Approving, refusing, withdrawing, a word on an emergency: each operation asks for its own.
    "approvals/<id:proposal_id>/file": _own("approvals.propose"),
    "approvals/<id:proposal_id>": _deed("approvals.answer"),
    "tariffs/<str:code>": _LOOK,
    "money": _LOOK,
    "lets": _LOOK,
    "lets.csv": _LOOK,
    "lets/new": _own("moves.tenant"),
    "lets/<id:let_id>": _deed("moves.tenant"),
    "refunds": _LOOK,
    "refunds.csv": _LOOK,
    "refunds/<id:refund_id>": _deed("vending.pay_refund"),
    "debts": _LOOK,
    "debts.csv": _LOOK,
    # Whoever sells takes money for a debt; the page asks for more where more is done.
    "debts/<id:debt_id>": _deed("vending.recharge"),
    "messages": _LOOK,
    "property/import": _own("estate.check_import"),
    "property/import.csv": Rule("estate.check_import"),
    "property/calendar": _deed("estate.write"),
    "property/calendar.csv": _LOOK,
    "property/brake": _own("supply.release_brake"),
    "property/signing-keys": _deed("approvals.propose"),
    "property/keys": _LOOK,
    "property/keys.csv": _LOOK,
    "property/keys/new": _own("approvals.propose"),
    "property/keys/<id:key_id>/end": _own("approvals.propose"),
    "property/tamper": _deed("tamper.policy"),
    "property/rules": _LOOK,
    "property/rules/change": _own("supply.rules"),
    "property/switch": _PERSON,
    "live": Rule(ANYBODY),
    "me": _PERSON,
    "me/passkeys/new": _PERSON,
    "me/passkeys/<id:passkey_id>/remove": _PERSON,
    "me/recovery-codes": _PERSON,
    "me/lost": _PERSON,
    "me/password": _PERSON,
    "me/sessions": _PERSON,
    "second-factor": _PERSON,
    "people": Rule("people.manage"),
    "people/invite": _own("people.manage"),
    "people/groups": Rule("people.manage"),
    "people/groups/new": _own("people.manage approvals.propose"),
    "people/groups/<id:group_id>": _own("people.manage approvals.propose"),
    "people/<id:user_id>/duty": _own("people.manage approvals.propose"),
    "people/<id:user_id>/end": _own("people.manage approvals.propose"),
    "people/<id:user_id>/<str:deed>": _own("people.manage"),
    "invited/<id:property_id>/<str:token>": _STRANGER,
    "passkeys/ask": _PERSON,
    "passkeys/new": _PERSON,
    "sign-in/factor": _STRANGER,
    "sign-in/company": _STRANGER,
    "sign-in/company/back": _STRANGER,
    "sign-in/passkeys/ask": _STRANGER,
    "sign-in/passkeys/new": _STRANGER,
    "sign-in": _STRANGER,
    "sign-out": _PERSON,
    "preferences": _STRANGER,
    "healthz": Rule(NOBODY),
    "static/<path:name>": Rule(NOBODY),
    # Anybody may read how it is spoken to; at the root there is nothing.
    f"{API}openapi.json": Rule(NOBODY),
    API: Rule(NOBODY),
    f"{API}property": _LOOK,
    f"{API}units": _LOOK,
    f"{API}accounts": _LOOK,
    f"{API}accounts/<account_id>": _LOOK,
    f"{API}meters": _LOOK,
    f"{API}recharges": _LOOK,
    f"{API}alerts": _LOOK,
    f"{API}tariffs": _LOOK,
    f"{API}accounts/<account_id>/recharges": Rule("", "vending.recharge"),
    f"{API}recharges/<recharge_id>": _LOOK,
}
#: The first page of a duty that has no Today.
HOMES: Final[Mapping[Duty, str]] = {
    Duty.TENANT: "/mine",
    Duty.OWNER: "/figures",
    Duty.INSTALLER: "/work",
}
