"""Who may ask the web, how much, and what a browser is told: foreign pages, plain http, bodies, headers, files."""

from __future__ import annotations

import asyncio
import csv
import io
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings
from django.test import Client, override_settings
from tests.fernmoor import Fernmoor

import prewatt.web
from prewatt import serve
from prewatt.runtime.state import CannotRunError
from prewatt.web import session
from prewatt.web.body_limit import FORM_MAX, UPLOADS, limited
from prewatt.web.console.sheet_writer import SheetWriter

FROM_ELSEWHERE = [
    ("post", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}),
    ("post", {"sec-fetch-site": "same-site"}),
    ("post", {"origin": "https://localhost.evil.example"}),
    ("post", {"origin": "null"}),
    ("get", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}),
    ("get", {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}),
    ("get", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}),
]  # fmt: skip
OURS = [
    ("get", {}),
    ("get", {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}),
    ("get", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}),
    ("get", {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}),
    ("post", {"origin": "http://localhost", "sec-fetch-site": "same-origin"}),
]  # fmt: skip


def test_a_foreign_page_can_make_a_browser_ask_for_nothing_but_a_visit(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    """The test client skips the forms' tokens, so what refuses here is the boundary alone."""
    client = sign_in(fernmoor)
    for method, headers in FROM_ELSEWHERE:
        for address in ("/accounts", "/preferences", "/static/prewatt.js", "/api/v1/accounts"):
            assert getattr(client, method)(address, headers=headers).status_code == 403, headers
    for method, headers in OURS:
        address = "/preferences" if method == "post" else "/accounts"
        assert getattr(client, method)(address, headers=headers).status_code < 400, headers


def test_every_answer_tells_the_browser_what_it_may(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client = sign_in(fernmoor)
    answers = [
        *(client.get(each) for each in ("/", "/no-such-page", "/healthz", "/static/prewatt.js")),
        client.get("/accounts", headers={"sec-fetch-site": "cross-site"}),
        client.get("/accounts.csv"),
        client.post("/sign-in", {"email": "a\0@example.com"}),
        Client(headers={"host": "localhost"}).get("/sign-in"),
    ]
    assert [each.status_code for each in answers] == [200, 404, 200, 200, 403, 200, 400, 200]
    for each in answers:
        policy = each["Content-Security-Policy"]
        for part in ("default-src 'none'", "object-src 'none'", "base-uri 'none'", "script-src 'self';",
                     "style-src 'self';", "form-action 'self'", "frame-ancestors 'none'"):  # fmt: skip
            assert part in policy
        assert "unsafe" not in policy and "*" not in policy
        assert each["X-Content-Type-Options"] == "nosniff"
        assert each["X-Frame-Options"] == "DENY"
        assert each["Referrer-Policy"] == "same-origin"
        assert each["Cross-Origin-Opener-Policy"] == "same-origin"
        assert each["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in each
        assert "charset=utf-8" in each["Content-Type"]
        assert "Strict-Transport-Security" not in each, "nothing is promised without TLS"
        is_static = each.request["PATH_INFO"].startswith("/static/")
        assert is_static or each["Cache-Control"] in (
            "no-store",
            "max-age=0, no-cache, no-store, must-revalidate, private",
        )


def test_an_error_page_shows_no_secret(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from prewatt.web.console import views

    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("password=hunter2 of postgresql://web:hunter2@127.0.0.1/prewatt")

    client = sign_in(fernmoor)
    client.raise_request_exception = False
    monkeypatch.setattr(views, "clock", SimpleNamespace(now=breaks))
    page = client.get("/")
    assert page.status_code == 500
    for each in ("hunter2", "RuntimeError", "Traceback", "AttributeError", "/src/", "postgresql"):
        assert each not in page.content.decode()


@override_settings(
    TLS=True,
    SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
    SECURE_HSTS_SECONDS=365 * 86400,
    SECURE_HSTS_INCLUDE_SUBDOMAINS=True,
)
def test_behind_tls_nothing_is_answered_without_it() -> None:
    client = Client(headers={"host": "localhost"})
    page = client.get("/sign-in?next=/accounts")
    assert (page.status_code, page["Location"]) == (301, "https://localhost/sign-in?next=/accounts")
    assert client.post("/sign-in", {"email": "who"}).status_code == 403
    assert client.get("/api/v1/accounts").status_code == 403, "a program's key is not to travel on"
    assert client.get("/sign-in", headers={"x-forwarded-proto": "http"}).status_code == 301
    assert client.get("/healthz").status_code == 200
    safe = client.get("/sign-in", headers={"x-forwarded-proto": "https"})
    assert safe.status_code == 200
    assert safe["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"


@pytest.mark.parametrize("tls", ["1", "0"])
def test_cookies_are_kept_from_scripts_other_sites_and_other_hosts(
    tls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREWATT_TLS", tls)
    said = runpy.run_path(str(Path(prewatt.web.__file__).with_name("settings.py")))
    for each in ("SESSION", "CSRF"):
        assert said[f"{each}_COOKIE_SECURE"] is (tls == "1")
        assert said[f"{each}_COOKIE_NAME"].startswith("__Host-") is (tls == "1")
        assert said[f"{each}_COOKIE_HTTPONLY"] and said[f"{each}_COOKIE_SAMESITE"] == "Lax"
    # Those of theme and known browser take the same beginning.
    assert said["LANGUAGE_COOKIE_NAME"].startswith("__Host-") is (tls == "1")
    assert session.THEME_COOKIE.startswith(settings.COOKIE_PREFIX + "prewatt_")
    assert session.DEVICE_COOKIE.startswith(settings.COOKIE_PREFIX + "prewatt_")
    assert said["SECURE_HSTS_SECONDS"] >= 31_536_000 * int(tls)


def test_who_lets_other_machines_in_says_whether_by_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREWATT_TLS", raising=False)
    serve.refuse_open_hosts()
    with override_settings(ALLOWED_HOSTS=["power.example", "localhost"]):
        with pytest.raises(CannotRunError, match=r"power\.example"):
            serve.refuse_open_hosts()
        monkeypatch.setenv("PREWATT_TLS", "1")
        serve.refuse_open_hosts()


def asked(path: str, parts: list[int], announced: int | None) -> tuple[list[int], int]:
    """What is answered, and how many bytes the application was given."""
    answered: list[int] = []
    waiting = [
        {"type": "http.request", "body": bytes(size), "more_body": at + 1 < len(parts)}
        for at, size in enumerate(parts)
    ]
    read = 0

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        nonlocal read
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            read += len(message["body"])
            if not message["more_body"]:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                return

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        answered.extend([message["status"]] if message["type"] == "http.response.start" else [])

    headers = [] if announced is None else [(b"Content-Length", str(announced).encode())]
    scope = {"type": "http", "path": path, "headers": headers}
    asyncio.run(limited(app)(scope, receive, send))
    return answered, read


def test_no_more_of_a_body_is_read_than_its_page_may_need() -> None:
    upload = "/property/import"
    assert asked("/sign-in", [FORM_MAX], FORM_MAX) == ([200], FORM_MAX)
    assert asked("/sign-in", [FORM_MAX + 1], FORM_MAX + 1) == ([413], 0)
    assert asked("/sign-in", [FORM_MAX, 1, 10**6], None) == ([413], FORM_MAX), "chunks, no length"
    assert asked("/sign-in", [FORM_MAX, 1], 3) == ([413], FORM_MAX), "a length that lies"
    assert asked(upload, [FORM_MAX, FORM_MAX], None) == ([200], 2 * FORM_MAX)
    assert asked(upload, [], UPLOADS[upload] + 1) == ([413], 0)


def test_no_cell_of_any_file_runs_as_a_formula() -> None:
    file = io.StringIO()
    cells = [
        "=1+1",
        "+1",
        "-1+2",
        "@x",
        "\tx",
        "\rx",
        "\n",
        "\0x",
        "\u22121",
        "\uff1d1",
        "-3.41",
        "-7",
        'a"b,c',
    ]
    SheetWriter(file).writerows([cells])
    (row,) = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert row == [*(f"'{each}" for each in cells[:10]), *cells[10:]]
    folder = Path(prewatt.web.__file__).parent
    others = [
        path.name for path in folder.rglob("*.py")
        if "csv.writer(" in path.read_text() or "DictWriter" in path.read_text()
    ]  # fmt: skip
    assert others == ["sheet_writer.py"], "files for spreadsheets are written by SheetWriter"
