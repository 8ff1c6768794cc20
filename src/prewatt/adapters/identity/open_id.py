"""Signing in by a company's own directory: OpenID Connect, code flow with PKCE.

(OpenID Connect Core 1.0, section 3.1; Discovery 1.0; RFC 7636.) What it proves is whose e-mail address somebody has
at the company, in place of a password. It gives no duty, and no second factor of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from authlib.common.security import generate_token
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from prewatt.sign_in.ports import Asked, Directory, DirectoryRefused, Known

#: Signatures with a key that only the directory has; never one that a secret of ours would make.
ALGORITHMS: Final = ("RS256", "ES256", "PS256", "EdDSA")
WAIT_S: Final = 10
#: Clocks of two companies differ so much at most.
LEEWAY_S: Final = 60
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def ask(directory: Directory) -> tuple[str, Asked]:
    """Where to send the browser, and what to keep until it comes back. Raises DirectoryRefused."""
    asked = Asked(generate_token(32), generate_token(32), generate_token(64))
    with _session(directory) as session:
        address, _ = session.create_authorization_url(
            _endpoint(_described(directory), "authorization_endpoint"), state=asked.state, nonce=asked.nonce,
            code_verifier=asked.verifier,
        )  # fmt: skip
    return str(address), asked


def answer(directory: Directory, asked: Asked, given: Mapping[str, str], *, now: datetime) -> Known:
    """Who came back, by what the directory's answer proves. ``given`` are the parameters of the address.

    Raises DirectoryRefused.
    """
    if given.get("state") != asked.state or "code" not in given:
        raise DirectoryRefused("refused")
    described = _described(directory)
    with _session(directory) as session:
        try:
            tokens = session.fetch_token(
                _endpoint(described, "token_endpoint"), code=given["code"], code_verifier=asked.verifier,
                timeout=WAIT_S, allow_redirects=False,
            )  # fmt: skip
        except OAuthError as error:
            raise DirectoryRefused("refused") from error
        except requests.RequestException as error:
            raise DirectoryRefused("silent") from error
    claims = _proved(directory, asked, str(tokens.get("id_token", "")), described, now)
    email = claims.get("email")
    if not isinstance(email, str) or claims.get("email_verified") is not True:
        raise DirectoryRefused("unverified")
    return Known(directory.issuer, str(claims["sub"]), email.lower())


def _proved(
    directory: Directory, asked: Asked, token: str, described: Mapping[str, Any], now: datetime
) -> Mapping[str, Any]:
    """The claims of an ID token that this directory signed, for us, for this question, and that holds now."""
    keys = _fetched(_endpoint(described, "jwks_uri"))
    checks = jwt.JWTClaimsRegistry(
        now=int(now.timestamp()),
        leeway=LEEWAY_S,
        iss={"essential": True, "value": directory.issuer},
        aud={"essential": True, "value": directory.client_id},
        nonce={"essential": True, "value": asked.nonce},
        sub={"essential": True},
        exp={"essential": True},
        iat={"essential": True},
    )
    try:
        found = jwt.decode(token, KeySet.import_key_set(keys), algorithms=list(ALGORITHMS))  # type: ignore[arg-type]  # keys are looked at there
        checks.validate(found.claims)
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise DirectoryRefused("unproved") from error
    # A token for several needs to say that it was made for us (Core 3.1.3.7, 4 and 5).
    if found.claims.get("azp", directory.client_id) != directory.client_id:
        raise DirectoryRefused("unproved")
    return found.claims


def _session(directory: Directory) -> OAuth2Session:
    return OAuth2Session(
        directory.client_id, directory.client_secret, scope="openid email", redirect_uri=directory.back_to,
        code_challenge_method="S256",
    )  # fmt: skip


def _described(directory: Directory) -> Mapping[str, Any]:
    """What the directory says of itself; it must be who we asked (Discovery 4.3)."""
    described = _fetched(directory.issuer.rstrip("/") + "/.well-known/openid-configuration")
    if described.get("issuer") != directory.issuer:
        raise DirectoryRefused("malformed")
    return described


def _endpoint(described: Mapping[str, Any], name: str) -> str:
    address = described.get(name)
    if not isinstance(address, str):
        raise DirectoryRefused("malformed")
    return _safe(address)


def _safe(address: str) -> str:
    """The address, if nobody between us can read or change what goes there."""
    parts = urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise DirectoryRefused("insecure")
    return address


def _fetched(address: str) -> dict[str, Any]:
    try:
        response = requests.get(_safe(address), timeout=WAIT_S, allow_redirects=False)
        response.raise_for_status()
    except requests.RequestException as error:
        raise DirectoryRefused("silent") from error
    try:
        found = response.json()
    except ValueError as error:
        raise DirectoryRefused("malformed") from error
    if response.status_code != requests.codes.ok or not isinstance(found, dict):
        raise DirectoryRefused("malformed")
    return found
