"""Keys that sign what leaves Prewatt: seen here, and changed at the machine once two people agreed to it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import may, require
from prewatt.approvals.operations import Wanted
from prewatt.mandates.operations import KeyDeed, wanted_key_deed
from prewatt.reports.place import place_for
from prewatt.signing.keyring import NoSigningKey, open_keyring
from prewatt.signing.keys import PublicKey
from prewatt.signing.store import KeyStoreRefused
from prewatt.web import clock
from prewatt.web.console import deeds
from prewatt.web.console.agreeing import (
    REASON_MAX,
    agreed_or_proposed,
    look_context,
    presses,
)
from prewatt.web.console.asked import Asked
from prewatt.web.session import actor_of
from prewatt.web.ui import key_words


@sensitive_post_parameters("code", "passkey")
@require_http_methods(["GET", "POST"])
def signing_keys_view(request: HttpRequest) -> HttpResponse:
    """Which keys sign and verify; what shall be done to one is proposed, and done at the machine."""
    actor, now = actor_of(request), clock.now()
    place, keys = place_for(actor), _keys()
    choices = _deeds_of(keys)
    asked = Asked(request.POST) if request.method == "POST" else None
    wanted: Wanted | None = None
    if asked is not None:
        require(actor, "approvals.propose")
        reason = asked.line("reason", most=REASON_MAX, needed=True)
        chosen = asked.choice("deed", [each for each, _name in choices])
        if not asked.faults:
            deed, role, key_id = chosen.split(":")
            wanted = wanted_key_deed(
                actor=actor, property_id=place.property_id, wanted=KeyDeed(deed, role, key_id)
            )
        if wanted is not None and presses(request):
            address = agreed_or_proposed(request, asked, wanted, reason, now)
            if address is not None:
                return redirect(address)
    return deeds.show(
        request, "signing_keys", place=place, now=now, tab="keys", choices=choices,
        keys=[(each, key_words.ROLE[each.role], _state(each, now)) for each in keys],
        may_propose=may(actor, "approvals.propose") and choices,
        **look_context(request, asked, wanted, now),
    )  # fmt: skip


def _keys() -> Sequence[PublicKey]:
    """Every key there is, none where this process has no store."""
    try:
        return open_keyring().public_keys()
    except (NoSigningKey, KeyStoreRefused):
        return ()


def _deeds_of(keys: Sequence[PublicKey]) -> list[tuple[str, str]]:
    """What can be asked for: the next key of a role, and the end of trust in a key."""
    held = [each for each in keys if each.revoked_at is None]
    roles = sorted({each.role for each in held})
    return [
        *(
            (f"rotate:{role}:", _("Make the next key: %(what)s") % {"what": key_words.ROLE[role]})
            for role in roles
        ),
        *(
            (
                f"revoke:{each.role}:{each.key_id}",
                _("Revoke %(key)s: %(what)s")
                % {"key": each.key_id, "what": key_words.ROLE[each.role]},
            )
            for each in held
        ),
    ]


def _state(key: PublicKey, now: datetime) -> str:
    if key.revoked_at is not None:
        return _("revoked")
    if now < key.signs_from:
        return _("waits")
    return _("signs") if key.signs_at(now) else _("verifies")
