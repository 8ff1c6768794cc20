"""What an authority signs, and what it does not: held to the library's own verifier and to hostile requests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.devices.pki import issuer_below

from cases import cases
from prewatt.devices import authority
from prewatt.devices.authority import Authority, CertificateRefused, Revoked
from prewatt.devices.broker_files import rights
from prewatt.devices.safe import Safe, SafeRefused

NOW = datetime(2026, 11, 28, 5, 0, tzinfo=UTC)
ROOT = authority.make_root("Test", now=NOW)
ISSUER = issuer_below(ROOT, "P", now=NOW)
KEY = authority.new_key()
REQUEST = authority.make_request("PW-1", KEY)


def verified(leaf: x509.Certificate, issuer: Authority, at: datetime) -> list[x509.GeneralName]:
    """What a verifier that nobody here wrote reads out of a chain."""
    verifier = PolicyBuilder().store(Store([ROOT.certificate])).time(at).build_client_verifier()
    return list(verifier.verify(leaf, [issuer.certificate]).subjects or [])


def test_a_meter_is_its_serial_number_for_a_year_and_no_longer() -> None:
    made = authority.issue(ISSUER, REQUEST, serial="PW-1", now=NOW)
    assert verified(made, ISSUER, NOW) == [x509.UniformResourceIdentifier("urn:prewatt:meter:PW-1")]
    (name,) = made.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "PW-1"
    assert verified(made, ISSUER, NOW + timedelta(days=364))
    for at in (NOW - timedelta(hours=1), NOW + timedelta(days=366)):
        with pytest.raises(VerificationError):
            verified(made, ISSUER, at)


def test_a_meter_signs_no_certificate_and_an_issuer_no_issuer() -> None:
    meter = Authority(authority.issue(ISSUER, REQUEST, serial="PW-1", now=NOW), KEY)
    request = authority.make_request("PW-2", authority.new_key())
    forged = authority.issue(meter, request, serial="PW-2", now=NOW)
    with pytest.raises(VerificationError):
        verified(forged, meter, NOW)
    key = authority.new_key()
    below = authority.sign_issuer(
        Authority(ROOT.certificate, ISSUER.key), authority.make_request("Q", key),
        property_code="Q", now=NOW,
    )  # fmt: skip
    other = Authority(below, key)
    made = authority.issue(other, REQUEST, serial="PW-1", now=NOW)
    with pytest.raises(VerificationError):
        verified(made, other, NOW)


def signed(name: x509.Name, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("reason", "request_of", "serial"),
    [
        ("name", lambda: REQUEST, "PW-2"),
        ("serial", lambda: REQUEST, "@head-end"),
        ("serial", lambda: REQUEST, "PW/1"),
        ("serial", lambda: REQUEST, "PW+1"),
        ("serial", lambda: REQUEST, ""),
        ("request", lambda: REQUEST[:-4] + bytes(4), "PW-1"),
        ("request", lambda: b"", "PW-1"),
        ("request", lambda: b"\x30" * 5_000, "PW-1"),
        ("key", lambda: signed(x509.Name([]), ec.generate_private_key(ec.SECP384R1())), "PW-1"),
        ("key", lambda: signed(x509.Name([]), ed25519.Ed25519PrivateKey.generate()), "PW-1"),
    ],
)
def test_what_is_not_signed(reason: str, request_of: Callable[[], bytes], serial: str) -> None:
    with pytest.raises(CertificateRefused) as refused:
        authority.issue(ISSUER, request_of(), serial=serial, now=NOW)
    assert refused.value.reason == reason


@settings(max_examples=cases(150), deadline=None)
@given(st.integers(0, len(REQUEST) - 1), st.binary(min_size=1, max_size=6))
def test_a_request_that_was_touched_is_refused_and_no_bytes_do_more(at: int, noise: bytes) -> None:
    touched = REQUEST[:at] + noise + REQUEST[at + len(noise) :]
    if touched != REQUEST:
        with pytest.raises(CertificateRefused):
            authority.issue(ISSUER, touched, serial="PW-1", now=NOW)


def test_an_issuer_signs_nothing_beyond_its_own_end() -> None:
    late = NOW + authority.ISSUER_LASTS - timedelta(days=364)
    with pytest.raises(CertificateRefused, match="does not hold"):
        authority.issue(ISSUER, REQUEST, serial="PW-1", now=late)


def test_a_renewal_is_signed_by_the_key_it_replaces() -> None:
    made = authority.as_der(authority.issue(ISSUER, REQUEST, serial="PW-1", now=NOW))
    following = authority.make_request("PW-1", authority.new_key())
    authority.check_renewal(made, following, authority.sign_renewal(KEY, following))
    for signature in (
        authority.sign_renewal(authority.new_key(), following),
        authority.sign_renewal(KEY, REQUEST),
        b"",
    ):
        with pytest.raises(CertificateRefused):
            authority.check_renewal(made, following, signature)


def test_a_list_of_revoked_certificates_outlives_whoever_forgets_to_write_it_anew() -> None:
    made = authority.issue(ISSUER, REQUEST, serial="PW-1", now=NOW)
    listed = authority.revocation_list(ISSUER, [Revoked(made.serial_number, NOW)], now=NOW)
    assert listed.is_signature_valid(ISSUER.certificate.public_key())  # type: ignore[arg-type]
    assert listed.get_revoked_certificate_by_serial_number(made.serial_number) is not None
    assert listed.next_update_utc == ISSUER.certificate.not_valid_after_utc


def test_rights_name_each_device_and_shut_the_isolated_out_first() -> None:
    said = rights({"DTU-1": ["PW-1"], "DTU-2": ["PW-2"]}, ["PW-9", "DTU-2"]).split("\n\n")
    assert said[0].endswith("pattern write pw/%u/up/+\npattern read pw/%u/down/+")
    assert said[1] == "user @head-end\ntopic read pw/+/up/+\ntopic write pw/+/down/+"
    assert said[2] == "user DTU-1\ntopic write pw/PW-1/up/+\ntopic read pw/PW-1/down/+"
    assert said[3:] == ["user DTU-2\ntopic deny #", "user PW-9\ntopic deny #\n"]


def test_a_safe_keeps_keys_sealed_whole_and_for_its_owner(tmp_path: Path) -> None:
    safe = Safe(tmp_path / "safe", "sixteen characters")
    safe.keep_key("P", ISSUER.key)
    with pytest.raises(SafeRefused, match="cannot read"):
        safe.authority("P")
    safe.keep_certificate("P", ISSUER.certificate)
    assert safe.authority("P").key.private_numbers() == ISSUER.key.private_numbers()
    assert repr(safe.authority("P")).startswith("Authority(CN=P,")
    file = safe.path / "P.key"
    assert file.stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED PRIVATE KEY" in file.read_bytes()
    refusals: list[tuple[str, Callable[[], object]]] = [
        ("another phrase", lambda: Safe(safe.path, "another phrase, long").key("P")),
        ("at least 16", lambda: Safe(safe.path, "short")),
        ("cannot write", lambda: safe.keep_key("P", KEY)),
        ("cannot be a name", lambda: safe.keep_key("../P", KEY)),
        ("not of the key", lambda: safe.keep_certificate("P", ROOT.certificate)),
    ]
    for words, attempt in refusals:
        with pytest.raises(SafeRefused, match=words):
            attempt()
    file.chmod(0o660)
    with pytest.raises(SafeRefused, match="others may write"):
        safe.key("P")
