"""Signing in by a company's directory, against one that others wrote; and answers that prove nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey

from prewatt.adapters.identity import open_id
from prewatt.sign_in.ports import Asked, Directory, DirectoryRefused, Known

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
BACK = "http://localhost/sign-in/company/back"
ORLA = {"email": "Orla@fenwick.example", "email_verified": True}


@pytest.fixture(scope="module")
def directory() -> Iterator[Directory]:
    """A directory in a thread of its own, which knows Orla, and Pell without having asked at his address."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from oidc_provider_mock import User, run_server_in_thread
    people = [
        User(sub="orla", claims=ORLA),
        User(sub="pell", claims={"email": "pell@fenwick.example", "email_verified": False}),
    ]
    with run_server_in_thread(require_nonce=True, user_claims=people) as server:
        yield Directory(f"http://localhost:{server.server_port}", "prewatt", "secret", BACK)


def signed_in(address: str, who: str) -> dict[str, str]:
    """What the browser brings back after its person signed in at the directory."""
    response = requests.post(address, data={"sub": who}, allow_redirects=False, timeout=5)
    assert response.status_code == 302, response.text
    assert response.headers["Location"].startswith(BACK)
    return dict(parse_qsl(urlsplit(response.headers["Location"]).query))


def now() -> datetime:
    return datetime.now(UTC)


def test_who_signed_in_there_is_known_here(directory: Directory) -> None:
    address, asked = open_id.ask(directory)
    asked_for = dict(parse_qsl(urlsplit(address).query))
    assert (asked_for["code_challenge_method"], asked_for["nonce"]) == ("S256", asked.nonce)
    assert asked.verifier not in address
    given = signed_in(address, "orla")
    known = open_id.answer(directory, asked, given, now=now())
    assert known == Known(directory.issuer, "orla", "orla@fenwick.example")
    # A code is good once.
    with pytest.raises(DirectoryRefused, match=r"^refused$"):
        open_id.answer(directory, asked, given, now=now())


def test_an_answer_to_another_question_signs_nobody_in(directory: Directory) -> None:
    address, asked = open_id.ask(directory)
    given = signed_in(address, "orla")
    _, other = open_id.ask(directory)
    for mine, brought, reason in (
        (other, given, "refused"),
        (asked, {"state": asked.state, "error": "access_denied"}, "refused"),
        (asked, given | {"code": "guessed"}, "refused"),
        (replace(asked, nonce=other.nonce), given, "unproved"),
    ):
        with pytest.raises(DirectoryRefused, match=f"^{reason}$"):
            open_id.answer(directory, mine, brought, now=now())
    for who, at, reason in (
        ("orla", now() + timedelta(days=2), "unproved"),
        ("pell", now(), "unverified"),
    ):
        address, asked = open_id.ask(directory)
        given = signed_in(address, who)
        with pytest.raises(DirectoryRefused, match=f"^{reason}$"):
            open_id.answer(directory, asked, given, now=at)


KEY = RSAKey.generate_key(2048, {"kid": "1"})
MINE = Directory("https://directory.example", "prewatt", "secret", BACK)
ASKED = Asked("state", "nonce", "verifier")
CLAIMS: dict[str, Any] = {
    "iss": MINE.issuer,
    "aud": "prewatt",
    "nonce": "nonce",
    "sub": "orla",
    **ORLA,
}


@pytest.mark.parametrize(
    ("header", "key", "change"),
    [
        ({"alg": "RS256", "kid": "1"}, KEY, {"aud": "another"}),
        ({"alg": "RS256", "kid": "1"}, KEY, {"aud": ["prewatt", "another"], "azp": "another"}),
        ({"alg": "RS256", "kid": "1"}, KEY, {"iss": "https://elsewhere.example"}),
        ({"alg": "RS256", "kid": "1"}, KEY, {"nonce": None}),
        ({"alg": "RS256", "kid": "1"}, KEY, {"exp": None}),
        ({"alg": "RS256", "kid": "1"}, RSAKey.generate_key(2048, {"kid": "1"}), {}),
        # Signed with what is public: the way in of a reader who lets the token choose.
        ({"alg": "HS256", "kid": "1"}, OctKey.import_key(json.dumps(KEY.as_dict(private=False))), {}),
        ({"alg": "none"}, None, {}),
    ],
)  # fmt: skip
def test_a_token_that_is_not_the_directorys_for_us_proves_nothing(
    monkeypatch: pytest.MonkeyPatch, header: dict[str, str], key: Any, change: dict[str, Any]
) -> None:
    moment = int(now().timestamp())
    claims = {"iat": moment, "exp": moment + 60, **CLAIMS, **change}
    claims = {name: value for name, value in claims.items() if value is not None}
    if key is None:
        token = (
            "eyJhbGciOiJub25lIn0." + jwt.encode({"alg": "RS256"}, claims, KEY).split(".")[1] + "."
        )
    else:
        token = jwt.encode(header, claims, key, algorithms=[header["alg"]])
    keys = KeySet([KEY]).as_dict(private=False)
    monkeypatch.setattr(open_id, "_fetched", lambda _address: keys)
    described = {"jwks_uri": "https://directory.example/keys"}
    with pytest.raises(DirectoryRefused, match=r"^unproved$"):
        open_id._proved(MINE, ASKED, token, described, now())


def test_nothing_secret_goes_over_a_line_that_others_read() -> None:
    with pytest.raises(DirectoryRefused, match=r"^insecure$"):
        open_id.ask(replace(MINE, issuer="http://directory.example"))
