"""Signing in by the company's own directory, where one is set (``PREWATT_OPENID_ISSUER`` and what belongs to it)."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Final

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from prewatt.sign_in.directory import person_of
from prewatt.sign_in.ports import Asked, Directory, DirectoryRefused, directories
from prewatt.web import clock, session

_log = logging.getLogger("prewatt.web")
_ASKED: Final = "company"


def directory_of(request: HttpRequest) -> Directory:
    """The company's directory. Raises Http404 where none is set."""
    issuer, client_id, secret = settings.PREWATT_OPENID
    if not issuer:
        raise Http404
    return Directory(issuer, client_id, secret, request.build_absolute_uri("/sign-in/company/back"))


@never_cache
@require_safe
def ask_view(request: HttpRequest) -> HttpResponse:
    """To the directory. The page's policy lets no form go elsewhere, so a link leads here."""
    try:
        address, asked = directories().ask(directory_of(request))
    except DirectoryRefused as refused:
        return _refused(request, refused.reason)
    request.session[_ASKED] = asdict(asked)
    return redirect(address)


@never_cache
@require_safe
def back_view(request: HttpRequest) -> HttpResponse:
    """Back from the directory: a good answer is a right password, and no more."""
    directory = directory_of(request)
    kept = request.session.pop(_ASKED, None)
    if kept is None:
        return _refused(request, "refused")
    try:
        known = directories().answer(directory, Asked(**kept), request.GET.dict(), now=clock.now())
    except DirectoryRefused as refused:
        return _refused(request, refused.reason)
    user = person_of(issuer=known.issuer, subject=known.subject, email=known.email)
    if user is None:
        return _refused(request, "nobody")
    return session.known_by_first(request, user, by="company", target="/")


def _refused(request: HttpRequest, reason: str) -> HttpResponse:
    _log.warning("the directory signed nobody in: %s", reason)
    return redirect("/sign-in?problem=company")
