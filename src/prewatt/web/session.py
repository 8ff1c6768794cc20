"""Who is signed in, at which property, in which language and theme.

Every page but the sign-in needs a person with a duty at a property. The request then carries an
``Actor``; queries and operations open their scope with it, and below that the database decides.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth import authenticate, login, logout
from django.core import signing
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils import translation
from django.utils.crypto import salted_hmac
from django.utils.deprecation import MiddlewareMixin
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import get_language
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from prewatt.access import throttle
from prewatt.access.duties import properties_of
from prewatt.access.models import Duty, User
from prewatt.access.passwords import PASSWORD_MAX
from prewatt.access.scope import Actor, PermissionRefused, actor_for
from prewatt.audit.refusals import heed
from prewatt.reports.place import NoSuchThing
from prewatt.reports.properties import own_properties
from prewatt.web import clock, errors
from prewatt.web.client_address import client_address

THEMES = ("system", "light", "dark")
THEME_COOKIE = "prewatt_theme"
#: Paths that need nobody: signing in, language and theme, static files, liveness. Under `/api/` the API
#: asks for a key itself, and knows no session.
OPEN_PATHS = ("/sign-in", "/preferences", "/static/", "/healthz", "/api/")
#: A browser in which somebody signed in: strangers' failed tries do not make it wait.
DEVICE_COOKIE, DEVICE_AGE_S = "prewatt_device", 180 * 86400
#: The longest address of a page to return to.
NEXT_MAX = 2048


def actor_of(request: HttpRequest) -> Actor:
    """The actor of a signed-in request; views behind :class:`SignedIn` always have one."""
    actor: Actor = request.actor  # type: ignore[attr-defined]  # set by SignedIn below
    return actor


class PlainText(MiddlewareMixin):
    """Refuses a NUL wherever it stands: no text of ours has one, and PostgreSQL stores none."""

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        """400 for a NUL in the path, a parameter or a field of a form."""
        given = (value for data in (request.GET, request.POST) for value in _texts(data))
        if "\0" in request.path or any("\0" in each for each in given):
            return errors.bad_request(request)
        return None


def _texts(data: QueryDict) -> Iterator[str]:
    for name, values in data.lists():
        yield name
        yield from values


class SignedIn(MiddlewareMixin):
    """Sends strangers to the sign-in, gives everyone else their actor, and words refusals."""

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        """Let open paths through; ask all others for a duty at a property."""
        if any(request.path.startswith(path) for path in OPEN_PATHS):
            return None
        user = request.user
        if not isinstance(user, User) or not user.is_active:
            return _to_sign_in(request)
        try:
            request.actor = actor_for(user, property_id=_property_of(request, user))  # type: ignore[attr-defined]  # our attribute
        except PermissionRefused:
            logout(request)
            return _to_sign_in(request)
        return None

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """A refusal is a 403; what is not in scope does not exist."""
        if isinstance(error, PermissionRefused):
            return errors.forbidden(request)
        if isinstance(error, NoSuchThing):
            return errors.not_found(request)
        return None


def _property_of(request: HttpRequest, user: User) -> int:
    """The property chosen in this session, else the first the person has a duty at; 0 for none."""
    chosen = request.session.get("property_id")
    if isinstance(chosen, int):
        return chosen
    first = next(iter(properties_of(user.pk)), 0)
    request.session["property_id"] = first
    return first


def _to_sign_in(request: HttpRequest) -> HttpResponse:
    if request.headers.get("HX-Request"):
        return HttpResponse(status=204, headers={"HX-Redirect": "/sign-in"})
    query = urlencode({"next": request.get_full_path()}) if request.path != "/" else ""
    return redirect("/sign-in" + (f"?{query}" if query else ""))


def page_context(request: HttpRequest) -> dict[str, Any]:
    """What the frame of every page needs."""
    theme = request.COOKIES.get(THEME_COOKIE, "system")
    language = get_language() or "en"
    actor = getattr(request, "actor", None)
    return {
        "symbols_used": {},
        "theme": theme if theme in THEMES else "system",
        "language": language,
        "html_lang": "zh-Hans" if language.startswith("zh") else "en",
        "demo": getattr(settings, "DEMO", False),
        "actor": actor,
        # Called by the menu alone, where it is shown.
        "own_properties": (lambda: own_properties(actor)) if actor else (),
        "here": request.get_full_path(),
    }


@sensitive_post_parameters("password")
@never_cache
@require_http_methods(["GET", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    """Sign in with e-mail address and password; a refusal never says which of the two was wrong.

    Failed tries make the next one wait: see ``access.throttle``.
    """
    email = request.POST.get("email", "").strip().lower()[:254]
    problem, wait_s = "", 0
    if request.method == "POST":
        user = _proved(request, email, request.POST.get("password", ""))
        if isinstance(user, User):
            login(request, user)
            return _remember_device(_welcome(request, user), email)
        problem, wait_s = ("wait", user.seconds) if user is not None else ("refused", 0)
    status = 200 if not problem else 429 if problem == "wait" else 403
    response = render(
        request,
        "prewatt/pages/sign_in.html",
        {"email": email, "problem": problem, "wait_s": wait_s, "next": request.GET.get("next", "")},
        status=status,
    )
    if wait_s:
        response["Retry-After"] = str(wait_s)
    return response


def _proved(request: HttpRequest, email: str, password: str) -> User | throttle.Wait | None:
    """Who this is by their password, None for a wrong one, or how long to wait before trying."""
    tried = throttle.begin(
        email=email, address=client_address(request), device=_device_of(request, email),
        now=clock.now(),
    )  # fmt: skip
    if isinstance(tried, throttle.Wait):
        return tried
    user = authenticate(
        request, username=email, password=password if len(password) <= PASSWORD_MAX else ""
    )
    if not isinstance(user, User):
        return None
    throttle.succeeded(tried)
    return user


def _device_of(request: HttpRequest, email: str) -> str:
    """The name of this browser if this person has signed in with it before, else empty."""
    try:
        known = signing.loads(
            request.COOKIES.get(DEVICE_COOKIE, ""), salt=DEVICE_COOKIE, max_age=DEVICE_AGE_S
        )
    except signing.BadSignature:
        return ""
    return str(known["device"]) if known["email"] == _email_digest(email) else ""


def _remember_device(response: HttpResponse, email: str) -> HttpResponse:
    known = {"device": secrets.token_urlsafe(12), "email": _email_digest(email)}
    response.set_cookie(
        DEVICE_COOKIE,
        signing.dumps(known, salt=DEVICE_COOKIE),
        max_age=DEVICE_AGE_S,
        samesite="Lax",
        httponly=True,
        secure=settings.SESSION_COOKIE_SECURE,
    )
    return response


def _email_digest(email: str) -> str:
    return salted_hmac(DEVICE_COOKIE, email, algorithm="sha256").hexdigest()[:32]


def countersigned(request: HttpRequest, *, email: str, password: str) -> Actor | None:
    """Another administrator of this property who signs a deed at the same desk; None without one.

    Whoever acts cannot sign for themselves. Wrong tries are counted as those of signing in are, under
    the address that was given.
    """
    mine = actor_of(request)
    user = _proved(request, email.strip().lower()[:254], password)
    if not isinstance(user, User):
        heed("countersign", "password")
        return None
    try:
        second = actor_for(user, property_id=mine.property_ids[0])
    except PermissionRefused:
        return None
    is_other = second.user_id != mine.user_id and second.duty is Duty.ADMINISTRATOR
    if not is_other:
        heed("countersign", "own" if second.user_id == mine.user_id else "duty")
    return second if is_other else None


def _next(request: HttpRequest) -> str:
    """The page of ours that the form wants to return to, else the first."""
    target = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(target, allowed_hosts={request.get_host()})
    return target if safe and target.startswith("/") and len(target) <= NEXT_MAX else "/"


def _welcome(request: HttpRequest, user: User) -> HttpResponse:
    response = redirect(_next(request))
    if settings.LANGUAGE_COOKIE_NAME not in request.COOKIES and user.language != "en":
        _remember_language(response, user.language)
    return response


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """End the session."""
    logout(request)
    return redirect("/sign-in")


@require_POST
def switch_property(request: HttpRequest) -> HttpResponse:
    """Go on at another property of one's own; another's is refused and changes nothing."""
    wanted = request.POST.get("property", "")
    number = int(wanted) if wanted.isascii() and wanted.isdigit() and len(wanted) < 19 else 0
    user = request.user
    assert isinstance(user, User), "SignedIn lets nobody else come here"
    actor_for(user, property_id=number)
    request.session["property_id"] = number
    return redirect("/")


@require_POST
def preferences(request: HttpRequest) -> HttpResponse:
    """Set language or theme in a cookie and return to where the person was."""
    response = redirect(_next(request))
    language, theme = request.POST.get("language", ""), request.POST.get("theme", "")
    if language in dict(settings.LANGUAGES):
        _remember_language(response, language)
    if theme in THEMES:
        response.set_cookie(THEME_COOKIE, theme, max_age=365 * 86400, samesite="Lax", httponly=True)
    return response


def _remember_language(response: HttpResponse, language: str) -> None:
    known = translation.get_supported_language_variant(language)
    response.set_cookie(
        settings.LANGUAGE_COOKIE_NAME,
        known,
        max_age=365 * 86400,
        samesite="Lax",
        httponly=True,
    )
