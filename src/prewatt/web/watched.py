"""What of a request goes into the audit besides deeds: whose data it showed, and what it was refused.

A page that shows somebody's name, usage or messages is a look at personal data, whoever looks: staff
and auditors alike. It is written down before the answer leaves, so that nothing is shown that is not.
Every address stands in one of the two lists here; a test asks for it.
"""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from prewatt.access.scope import Actor
from prewatt.audit.refusals import gathered
from prewatt.oversight.trail import Looks, note_refusals
from prewatt.web import clock

_PLACE: Final = "property:{place}"
#: What each page shows: the code of its event, and whose data it is.
READS: Final[dict[str, tuple[str, str]]] = {
    "": ("reads.board", _PLACE),
    "today": ("reads.board", _PLACE),
    "alerts": ("reads.alerts", _PLACE),
    "alerts.csv": ("reads.export", _PLACE),
    "alerts/<id:alert_id>": ("reads.alert", "alert:{alert_id}"),
    "accounts": ("reads.accounts", _PLACE),
    "accounts.csv": ("reads.export", _PLACE),
    "customers/pick/<str:name>": ("reads.picker", _PLACE),
    "accounts/former": ("reads.accounts", _PLACE),
    "accounts/<id:account_id>": ("reads.account", "account:{account_id}"),
    "accounts/<id:account_id>/recharge": ("reads.account", "account:{account_id}"),
    "accounts/<id:account_id>/charges/<id:event_id>/<str:kind>/<str:day>": (
        "reads.account", "account:{account_id}",
    ),
    "accounts/<id:account_id>/protection": ("reads.account", "account:{account_id}"),
    "accounts/<id:account_id>/credit": ("reads.account", "account:{account_id}"),
    "accounts/<id:account_id>/by-hand": ("reads.account", "account:{account_id}"),
    "accounts/<id:account_id>/sign-in": ("reads.account", "account:{account_id}"),
    "accounts/<id:account_id>/terms": ("reads.account", "account:{account_id}"),
    "accounts/<id:account_id>/file": ("reads.account", "account:{account_id}"),
    "accounts/plans": ("reads.accounts", _PLACE),
    "accounts/<id:account_id>/plan": ("reads.account", "account:{account_id}"),
    "accounts/<id:account_id>/correct-tariff": ("reads.account", "account:{account_id}"),
    "accounts/<id:account_id>/debts/new": ("reads.account", "account:{account_id}"),
    "units": ("reads.units", _PLACE),
    "units.csv": ("reads.export", _PLACE),
    "units/<id:unit_id>": ("reads.unit", "unit:{unit_id}"),
    "units/<id:unit_id>/move/<str:deed>": ("reads.unit", "unit:{unit_id}"),
    "units/<id:unit_id>/hand-over": ("reads.unit", "unit:{unit_id}"),
    "recharges/<id:event_id>": ("reads.recharge", "recharge:{event_id}"),
    "recharges/<id:event_id>/take-back": ("reads.recharge", "recharge:{event_id}"),
    "supply": ("reads.supply", _PLACE),
    "meters": ("reads.meters", _PLACE),
    "meters/fleet": ("reads.meters", _PLACE),
    "meters/fleet.csv": ("reads.export", _PLACE),
    "meters/orders": ("reads.supply", _PLACE),
    "meters/orders.csv": ("reads.export", _PLACE),
    "meters/bulks": ("reads.supply", _PLACE),
    "meters/bulks/new": ("reads.meters", _PLACE),
    "meters/bulks/<id:bulk_id>": ("reads.supply", _PLACE),
    "meters/<id:meter_id>": ("reads.meter", "meter:{meter_id}"),
    "meters/credit": ("reads.meters", _PLACE),
    "meters/credit.csv": ("reads.export", _PLACE),
    "meters/<id:meter_id>/credit": ("reads.meter", "meter:{meter_id}"),
    "meters/<id:meter_id>/credit/<id:sequence>": ("reads.meter", "meter:{meter_id}"),
    "meters/cases": ("reads.meters", _PLACE),
    "meters/cases.csv": ("reads.export", _PLACE),
    "meters/cases/<id:tamper_id>": ("reads.tamper", "tamper:{tamper_id}"),
    "meters/feed-in": ("reads.meters", _PLACE),
    "meters/held": ("reads.meters", _PLACE),
    "meters/held.csv": ("reads.export", _PLACE),
    "meters/held/<id:case_id>": ("reads.held", "case:{case_id}"),
    "meters/<id:meter_id>/held": ("reads.meter", "meter:{meter_id}"),
    "meters/<id:meter_id>/read": ("reads.meter", "meter:{meter_id}"),
    "meters/<id:meter_id>/correct": ("reads.meter", "meter:{meter_id}"),
    "meters/<id:meter_id>/exchange": ("reads.meter", "meter:{meter_id}"),
    "tariffs/drafts/<str:code>/trial": ("reads.trial", _PLACE),
    "tariffs/drafts/<str:code>/trial.csv": ("reads.export", _PLACE),
    # Of a protected supply or a refund the title says whose it is.
    "approvals": ("reads.proposals", _PLACE),
    "approvals.csv": ("reads.export", _PLACE),
    "approvals/<id:proposal_id>/file": ("reads.proposal", "proposal:{proposal_id}"),
    "approvals/<id:proposal_id>": ("reads.proposal", "proposal:{proposal_id}"),
    "money": ("reads.money", _PLACE),
    "lets": ("reads.lets", _PLACE),
    "lets.csv": ("reads.export", _PLACE),
    "lets/new": ("reads.lets", _PLACE),
    "lets/<id:let_id>": ("reads.let", "let:{let_id}"),
    "refunds": ("reads.refunds", _PLACE),
    "refunds.csv": ("reads.export", _PLACE),
    "refunds/<id:refund_id>": ("reads.refund", "refund:{refund_id}"),
    "debts": ("reads.debts", _PLACE),
    "debts.csv": ("reads.export", _PLACE),
    "debts/<id:debt_id>": ("reads.debt", "debt:{debt_id}"),
    "messages": ("reads.messages", _PLACE),
    "audit": ("reads.audit", _PLACE),
    "audit.csv": ("reads.export", _PLACE),
    "audit/<id:event_id>": ("reads.event", "event:{event_id}"),
    "audit/people": ("reads.audit", _PLACE),
    "audit/people/<id:user_id>": ("reads.person", "user:{user_id}"),
    "audit/of/<str:kind>:<id:number>": ("reads.audit", "{kind}:{number}"),
    "audit/findings": ("reads.findings", _PLACE),
    "audit/findings.csv": ("reads.export", _PLACE),
    "audit/findings/<id:finding_id>": ("reads.findings", "finding:{finding_id}"),
    "people": ("reads.people", _PLACE),
    "people/invite": ("reads.people", _PLACE),
    "people/groups": ("reads.people", _PLACE),
    "people/groups/new": ("reads.people", _PLACE),
    "people/groups/<id:group_id>": ("reads.people", _PLACE),
    "people/<id:user_id>/duty": ("reads.person", "user:{user_id}"),
    "people/<id:user_id>/end": ("reads.person", "user:{user_id}"),
    "people/<id:user_id>/<str:deed>": ("reads.person", "user:{user_id}"),
    # What a program reads by its key.
    "api/v1/units": ("reads.units", _PLACE),
    "api/v1/accounts": ("reads.accounts", _PLACE),
    "api/v1/accounts/<account_id>": ("reads.account", "account:{account_id}"),
    "api/v1/accounts/<account_id>/recharges": ("reads.account", "account:{account_id}"),
    "api/v1/recharges/<recharge_id>": ("reads.recharge", "recharge:{recharge_id}"),
    "api/v1/meters": ("reads.meters", _PLACE),
    "api/v1/recharges": ("reads.money", _PLACE),
    "api/v1/alerts": ("reads.alerts", _PLACE),
}  # fmt: skip
#: Pages about no person: plans, rules, the calendar, one's own sign-in and preferences, files of ours.
IMPERSONAL: Final = frozenset(
    {
        # Of a tenant their own; sums; devices and registers without a name.
        "mine", "figures", "work", "work/<id:meter_id>", "work/cases", "work/cases/<id:tamper_id>",
        "meters/certificates", "meters/certificates.csv", "meters/certificates/<str:serial>/code",
        "meters/certificates/<str:serial>/revoke",
        "meters/concentrators", "meters/concentrators/new", "meters/concentrators/<id:concentrator_id>",
        "work/new", "work/table", "work/fitted", "work/<id:meter_id>/exchange", "work/<id:meter_id>/check",
        "me", "me/passkeys/new", "me/passkeys/<id:passkey_id>/remove", "me/recovery-codes", "me/lost",
        "me/password", "me/sessions", "passkeys/ask", "passkeys/new", "sign-in/factor",
        "sign-in/passkeys/ask", "sign-in/passkeys/new", "sign-in/company", "sign-in/company/back",
        "invited/<id:property_id>/<str:token>",
        "property", "tariffs", "tariffs.csv", "tariffs/new", "tariffs/announced",
        "tariffs/announced.csv", "tariffs/announced/<id:event_id>/withdraw", "tariffs/rules",
        "tariffs/drafts/<str:code>", "tariffs/drafts/<str:code>/propose",
        "approvals/limits", "approvals/limits/<str:kind>", "property/brake", "tariffs/<str:code>", "property/import", "property/import.csv",
        "property/calendar", "property/calendar.csv", "property/signing-keys", "property/keys", "property/keys.csv", "property/keys/new", "property/keys/<id:key_id>/end",
        "property/rules", "property/rules/change", "property/tamper",
        "property/switch", "live", "second-factor", "sign-in", "sign-out", "preferences", "healthz",
        "static/<path:name>", "audit/watches", "audit/watches/new/<str:kind>",
        "audit/watches/<id:watch_id>",
        # One's own: passkeys, recovery codes, sessions, and the steps of signing in.
        "api/v1/property", "api/v1/tariffs", "api/v1/openapi.json", "api/v1/",
        # Writes an event of its own, with its query and its digest.
        "audit.zip",
    }
)  # fmt: skip
_SHOWN: Final = frozenset({"GET", "HEAD"})
_LOOKS: Final = Looks()


class Watched(MiddlewareMixin):
    """The last before the views: who asks is known, and what they were answered."""

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        """Write the look, or the refusals, of a signed-in request."""
        # A program is let in by its key alone.
        actor = getattr(request, "actor", None) or getattr(request, "auth", None)
        refused = gathered()
        # Who is at no property has nothing to look at, and a sign-in that is refused counts by itself.
        if not isinstance(actor, Actor) or not actor.property_ids:
            return response
        if refused:
            note_refusals(
                actor=actor, refused=refused, path=request.path, method=str(request.method),
                now=clock.now(),
            )  # fmt: skip
        if response.status_code == 200 and request.method in _SHOWN:
            _look(request, actor)
        return response


def _look(request: HttpRequest, actor: Actor) -> None:
    match = request.resolver_match
    shown = None if match is None else READS.get(match.route)
    if match is None or shown is None:
        return
    code, subject = shown
    named = {**match.kwargs, "place": actor.property_ids[0]}
    _LOOKS.note(
        actor=actor, code=code, subject=subject.format(**named)[:80],
        asked=(request.GET.get("q") or request.GET.get("find", "")).strip()[:80], now=clock.now(),
    )  # fmt: skip
