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
from django.contrib.auth import authenticate, login, logout, update_session_auth_hash
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.core import signing
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, QueryDict
from django.shortcuts import redirect, render
from django.utils import translation
from django.utils.crypto import constant_time_compare, salted_hmac
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
from prewatt.access.scope import Actor, PermissionRefused, actor_for, require
from prewatt.oversight.trail import note_refused_sign_in
from prewatt.reports.place import NoSuchThing
from prewatt.reports.properties import own_properties
from prewatt.sign_in import factors, sessions
from prewatt.web import clock, errors, rules
from prewatt.web.client_address import client_address

THEMES = ("system", "light", "dark")
#: Behind TLS no other host of the site can set one of ours.
THEME_COOKIE = f"{settings.COOKIE_PREFIX}prewatt_theme"
#: Paths that need nobody: signing in, language and theme, static files, liveness. Under `/api/` the API
#: asks for a key itself, and knows no session.
OPEN_PATHS = ("/sign-in", "/preferences", "/static/", "/healthz", "/api/", "/invited/")
#: What an open page asks for by itself: no sign that somebody is there.
BY_ITSELF = ("/live",)
#: How long a right password waits for the second factor.
PENDING_S = 600
#: A browser in which somebody signed in: strangers' failed tries do not make it wait.
DEVICE_COOKIE, DEVICE_AGE_S = f"{settings.COOKIE_PREFIX}prewatt_device", 180 * 86400
#: What its content is signed for, whatever the cookie is called.
DEVICE_SALT = "prewatt_device"
#: At a desk several people use one browser, each known to it.
DEVICE_PEOPLE_MAX = 12
#: The longest address of a page to return to.
NEXT_MAX = 2048
#: Whoever decides, and whoever looks after them, is let in by a second factor only.
PROVED_DUTIES = frozenset({Duty.ADMINISTRATOR, Duty.AUDITOR})


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
        if not isinstance(user, User):
            return _to_sign_in(request)
        if not _goes_on(request, user):
            # What the browser still carries is of no use any more.
            logout(request)
            return _to_sign_in(request)
        try:
            actor = actor_for(user, property_id=_property_of(request, user))
        except PermissionRefused:
            logout(request)
            return redirect("/sign-in?problem=no-duty")
        if actor.duty in PROVED_DUTIES and not request.session.get("proved") and not settings.DEMO:
            # A duty that came during the session: it asks for a second factor from now on.
            logout(request)
            return _to_sign_in(request)
        request.actor = actor  # type: ignore[attr-defined]  # our attribute
        return None

    def process_view(
        self, request: HttpRequest, view: object, args: object, kwargs: object
    ) -> HttpResponse | None:
        """Ask for what `rules` says of this address, before its view runs."""
        match = request.resolver_match
        rule = rules.RULES.get(match.route) if match is not None else None
        if match is None or rule is None:
            return errors.forbidden(request)
        wanted = rule.wanted(request.method)
        # Of a program it is asked when its key is known.
        if wanted in (rules.NOBODY, rules.ANYBODY) or match.route.startswith(rules.API):
            return None
        if not wanted:
            return HttpResponseNotAllowed(rules.SAFE)
        actor = actor_of(request)
        home = rules.HOMES.get(actor.duty)
        if home and request.path == "/":
            return redirect(home)
        try:
            for permission in wanted.split():
                require(actor, permission)
        except PermissionRefused:
            return errors.forbidden(request)
        return None

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """A refusal is a 403; what is not in scope does not exist."""
        if isinstance(error, PermissionRefused):
            return errors.forbidden(request)
        if isinstance(error, NoSuchThing):
            return errors.not_found(request)
        return None


def _goes_on(request: HttpRequest, user: User) -> bool:
    kept = request.session.get("sign_in")
    by_person = request.path not in BY_ITSELF and "HX-Request" not in request.headers
    return (
        user.is_active
        and isinstance(kept, int)
        and sessions.is_good(sign_in_id=kept, user=user, by_person=by_person, now=clock.now())
    )


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

    Failed tries make the next one wait: see ``access.throttle``. Who has a second factor, or a duty that
    needs one, is not signed in by this: `pending` names them for the next page, and is good for nothing else.
    """
    email = request.POST.get("email", "").strip().lower()[:254]
    problem, wait_s = "", 0
    if request.method == "POST":
        user = _proved(request, email, request.POST.get("password", ""))
        if isinstance(user, User):
            return known_by_first(request, user, by="password", target=_next(request))
        problem, wait_s = ("wait", user.seconds) if user is not None else ("refused", 0)
        note_refused_sign_in(network=throttle.network_of(client_address(request)), now=clock.now())
    elif request.GET.get("problem") in ("no-duty", "late", "invited", "company"):
        problem = request.GET["problem"]
    status = 200 if request.method == "GET" else 429 if problem == "wait" else 403
    response = render(
        request,
        "prewatt/pages/sign_in.html",
        {
            "email": email,
            "problem": problem,
            "wait_s": wait_s,
            "next": request.GET.get("next", ""),
            "company": settings.PREWATT_OPENID_NAME,
        },
        status=status,
    )
    if wait_s:
        response["Retry-After"] = str(wait_s)
    return response


def known_by_first(request: HttpRequest, user: User, *, by: str, target: str) -> HttpResponse:
    """Go on with somebody who is known by a password or their company: to the second factor, or in."""
    if factors.has_one(user) or (factors.needs_one(user) and not settings.DEMO):
        return _ask_for_factor(request, user, target)
    return complete(request, user, by=by, target=target)


def _ask_for_factor(request: HttpRequest, user: User, target: str) -> HttpResponse:
    """Remember whose password was right, in a session of a new name."""
    request.session.flush()
    request.session["pending"] = {
        "user": user.pk,
        "mark": user.get_session_auth_hash(),
        "until": clock.now().timestamp() + PENDING_S,
        "next": target,
    }
    return redirect("/sign-in/factor")


def pending(request: HttpRequest) -> User | None:
    """Whose password was right in this browser, some minutes ago; a new password ends it."""
    found = request.session.get("pending")
    if not found or clock.now().timestamp() > found["until"]:
        return None
    user = User.objects.filter(pk=found["user"], is_active=True).first()
    is_same = user is not None and constant_time_compare(
        found["mark"], user.get_session_auth_hash()
    )
    return user if is_same else None


def complete(request: HttpRequest, user: User, *, by: str, target: str = "") -> HttpResponse:
    """Begin the session, in a browser that is known from now on; ``by`` says what proved the person."""
    waiting = request.session.pop("pending", None)
    begin_session(request, user, by=by)
    return known_from_now_on(request, user, redirect(target or (waiting or {}).get("next", "/")))


def known_from_now_on(request: HttpRequest, user: User, response: HttpResponse) -> HttpResponse:
    """Let the browser keep that this person has signed in with it, and their language."""
    if settings.LANGUAGE_COOKIE_NAME not in request.COOKIES and user.language != "en":
        _remember_language(response, user.language)
    return _remember_device(request, response, user.email)


def begin_session(request: HttpRequest, user: User, *, by: str) -> None:
    """Sign in; Django gives the session a new name, so that nobody's planted one is good."""
    if not request.session.get("device"):
        request.session["device"] = _device(request)[0] or secrets.token_urlsafe(12)
    request.session["by"] = by
    login(request, user)


def keep_sessions() -> None:
    """Have each session of Django's written down as one of ours, and its end."""
    user_logged_in.connect(_began, dispatch_uid="prewatt.session.began")
    user_logged_out.connect(_ended, dispatch_uid="prewatt.session.ended")


def _began(request: HttpRequest, user: User, **_: Any) -> None:
    by = request.session.pop("by", "password")
    visitor = sessions.Visitor(
        address=client_address(request), agent=request.headers.get("User-Agent", ""),
        browser=request.session.get("device", ""),
    )  # fmt: skip
    kept = sessions.begin(user=user, by=by, visitor=visitor, now=clock.now())
    request.session["sign_in"] = kept.pk
    request.session["proved"] = "" if by in ("password", "company") else by


def _ended(request: HttpRequest, **_: Any) -> None:
    kept = request.session.get("sign_in")
    if isinstance(kept, int):
        sessions.end(sign_in_ids=[kept], why="out", now=clock.now())


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
    name, people = _device(request)
    return name if _email_digest(email) in people else ""


def _device(request: HttpRequest) -> tuple[str, list[str]]:
    """The name of this browser, and who has signed in with it, the latest first."""
    try:
        known = signing.loads(
            request.COOKIES.get(DEVICE_COOKIE, ""), salt=DEVICE_SALT, max_age=DEVICE_AGE_S
        )
        return str(known["device"]), [str(each) for each in known["people"]]
    except (signing.BadSignature, KeyError, TypeError):
        return "", []


def _remember_device(request: HttpRequest, response: HttpResponse, email: str) -> HttpResponse:
    mine = _email_digest(email)
    people = [mine, *(each for each in _device(request)[1] if each != mine)]
    known = {"device": request.session["device"], "people": people[:DEVICE_PEOPLE_MAX]}
    response.set_cookie(
        DEVICE_COOKIE,
        signing.dumps(known, salt=DEVICE_SALT),
        max_age=DEVICE_AGE_S,
        samesite="Lax",
        httponly=True,
        secure=settings.SESSION_COOKIE_SECURE,
    )
    return response


def _email_digest(email: str) -> str:
    return salted_hmac(DEVICE_SALT, email, algorithm="sha256").hexdigest()[:32]


def knows_password(request: HttpRequest, user: User, password: str) -> bool:
    """Whether this is the person's password; wrong tries are counted as those of signing in are."""
    found = _proved(request, user.email, password)
    return isinstance(found, User) and found.pk == user.pk


def go_on_with_new_password(request: HttpRequest) -> None:
    """Let this session go on under the new password, by a new name, and end all others."""
    assert isinstance(request.user, User)
    user = User.objects.get(pk=request.user.pk)
    update_session_auth_hash(request, user)
    sessions.end_others(user=user, but=request.session["sign_in"], why="password", now=clock.now())


def _next(request: HttpRequest) -> str:
    """The page of ours that the form wants to return to, else the first."""
    target = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(target, allowed_hosts={request.get_host()})
    return target if safe and target.startswith("/") and len(target) <= NEXT_MAX else "/"


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """End the session."""
    logout(request)
    response = redirect("/sign-in")
    # The browser forgets every page of ours; its cookies of language, theme and known browser stay.
    response["Clear-Site-Data"] = '"cache", "storage"'
    return response


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
        response.set_cookie(
            THEME_COOKIE,
            theme,
            max_age=365 * 86400,
            samesite="Lax",
            httponly=True,
            secure=settings.TLS,
        )
    return response


def _remember_language(response: HttpResponse, language: str) -> None:
    known = translation.get_supported_language_variant(language)
    response.set_cookie(
        settings.LANGUAGE_COOKIE_NAME,
        known,
        max_age=365 * 86400,
        samesite="Lax",
        httponly=True,
        secure=settings.TLS,
    )
