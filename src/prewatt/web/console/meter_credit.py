"""Meters that sign: which hold their account's credit; of one its keys, its standing, and what it was told and signed."""

from __future__ import annotations

import json
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import require
from prewatt.instructions.operations import enrol_key, revoke_key
from prewatt.instructions.wallets import (
    NOTE_MAX,
    WalletRefused,
    end_without_answer,
    hold_credit,
    release_credit,
)
from prewatt.reports.lists_query import PAGE_MAX
from prewatt.reports.meter_credit import (
    CREDIT_SHOWS,
    CREDIT_SORTS,
    SigningPage,
    credit_list,
    signed_file,
    signing_page,
)
from prewatt.signing.es256 import BadKey, spki_in
from prewatt.web import clock
from prewatt.web.console import deeds, export
from prewatt.web.console.asked import Asked
from prewatt.web.session import actor_of
from prewatt.web.ui import credit_tags

PATH: Final = "/meters/credit"
#: A public key has 91 bytes, in PEM 178.
_KEY_MAX: Final = 2_000
_DEEDS: Final = ("enrol", "revoke", "hold", "release", "end")


def credit_view(request: HttpRequest) -> HttpResponse:
    """The meters of a property that sign, and whether they hold credit."""
    wanted, address = deeds.chosen(request, shows=CREDIT_SHOWS, sorts=CREDIT_SORTS)
    found = credit_list(actor=actor_of(request), now=clock.now(), **wanted)
    return deeds.show_list(
        request, "credit", found, address, path=PATH, tab="credit",
        shows=credit_tags.CREDIT_SHOW.items(), sorts=credit_tags.CREDIT_SORT.items(),
    )  # fmt: skip


def credit_csv(request: HttpRequest) -> HttpResponse:
    """The same selection as a file."""
    wanted, _address = deeds.chosen(request, shows=CREDIT_SHOWS, sorts=CREDIT_SORTS)
    found = credit_list(actor=actor_of(request), now=clock.now(), **wanted | {"limit": PAGE_MAX})
    return deeds.as_csv("credit", lambda writer: export.credit_in_meters(writer, found))


@require_http_methods(["GET", "POST"])
def meter_view(request: HttpRequest, meter_id: int) -> HttpResponse:
    """One meter's keys and credit; a key enrolled or revoked, credit put into it or ended."""
    actor, now = actor_of(request), clock.now()
    page = signing_page(actor=actor, meter_id=meter_id, now=now)
    if request.method != "POST":
        return _show(request, page, None)
    require(actor, "estate.write")
    asked = Asked(request.POST)
    do = asked.choice("do", _DEEDS)
    if not asked.faults:
        _do(request, asked, page, do)
    if asked.faults:
        return _show(request, page, asked, status=422)
    return redirect(f"/meters/{meter_id}/credit")


def _do(request: HttpRequest, asked: Asked, page: SigningPage, do: str) -> None:
    """Do what was pressed; what refuses it stands beside its field."""
    on: dict[str, Any] = {
        "actor": actor_of(request), "property_id": page.place.property_id, "now": page.now,
    }  # fmt: skip
    meter_id = page.row.meter_id
    try:
        match do:
            case "enrol":
                enrol_key(**on, meter_id=meter_id, public_key=_public_key(request, asked))
            case "revoke":
                _revoke(asked, on)
            case "hold" if page.payer is None:
                raise WalletRefused("not_paying")
            case "hold":
                hold_credit(**on, meter_id=meter_id, account_id=page.payer or 0)
            case "release":
                release_credit(**on, meter_id=meter_id)
            case _:
                note = asked.line("note", most=NOTE_MAX, needed=True)
                if not asked.faults:
                    end_without_answer(**on, meter_id=meter_id, note=note)
    except BadKey:
        asked.faults["public_key"] = str(credit_tags.BAD_KEY)
    except WalletRefused as refused:
        asked.faults["wallet"] = str(credit_tags.WALLET_REFUSED[refused.reason])


def _public_key(request: HttpRequest, asked: Asked) -> bytes:
    """What was pasted or uploaded, as SubjectPublicKeyInfo. Raises BadKey."""
    file = request.FILES.get("file")
    if file is not None:
        return spki_in(file.read(_KEY_MAX + 1))
    return spki_in(asked.text("public_key", _KEY_MAX).encode())


def _revoke(asked: Asked, on: dict[str, Any]) -> None:
    reason = asked.line("reason", most=NOTE_MAX, needed=True)
    key_id = asked.text("key_id", 32)
    if asked.faults:
        return
    try:
        revoke_key(**on, key_id=bytes.fromhex(key_id), reason=reason)
    except ValueError:
        asked.faults["reason"] = _("There is no such key.")


def _show(
    request: HttpRequest, page: SigningPage, asked: Asked | None, status: int = 200
) -> HttpResponse:
    return deeds.show(
        request, "meter_credit", place=page.place, now=page.now, tab="credit", status=status, page=page,
        row=page.row, **deeds.form_context(asked),
    )  # fmt: skip


def signed_view(request: HttpRequest, meter_id: int, sequence: int) -> HttpResponse:
    """One instruction with its answer as bytes, and what anybody verifies them by."""
    content = signed_file(
        actor=actor_of(request), meter_id=meter_id, sequence=sequence, now=clock.now()
    )
    response = HttpResponse(json.dumps(content, indent=2), content_type="application/json")
    name = f"instruction-{meter_id}-{sequence}.json"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
