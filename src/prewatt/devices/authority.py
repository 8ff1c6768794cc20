"""X.509 for meters (RFC 5280): a root that signs issuers, issuers that sign devices, and what they revoke.

Three tiers. The root's key stays where there is no network and signs issuers alone. An issuer belongs to one property,
or to the platform itself, and signs devices. A device's key is made in the device: what is signed is the request that
comes out of it (PKCS #10), and of the request nothing but its key and its name is taken.

Pure but for the randomness of keys and serial numbers: no files, no database, the clock is an argument.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ROOT_LASTS: Final = timedelta(days=20 * 365)
ISSUER_LASTS: Final = timedelta(days=5 * 365)
DEVICE_LASTS: Final = timedelta(days=365)
#: A device renews in the last quarter of its certificate's life, and not before.
RENEWS_WITHIN: Final = timedelta(days=91)
#: A device's clock may be behind: its certificate holds from so long before it was made.
CLOCK_TOLERANCE: Final = timedelta(minutes=5)
REQUEST_BYTES_MAX: Final = 4_096

#: Who the platform is at the broker. No serial number begins so, hence no meter can have the name.
HEAD_END: Final = "@head-end"
BROKER: Final = "@broker"
#: In place of a property's code in the name of the platform's own issuer.
PLATFORM: Final = "@platform"

_ORGANISATION: Final = "Prewatt"
_SERIAL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_RENEWAL: Final = b"prewatt-renewal-v1\n"

Key = ec.EllipticCurvePrivateKey


class CertificateRefused(ValueError):
    """Nothing was signed, or what was shown is not believed. ``reason`` is a stable word."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate that signs others, with its key. The key is in no repr."""

    certificate: x509.Certificate
    key: Key

    def __repr__(self) -> str:
        return f"Authority({self.certificate.subject.rfc4514_string()})"


@dataclass(frozen=True, slots=True)
class Revoked:
    """A certificate that is not believed any more, by its number, and since when."""

    number: int
    at: datetime


def new_key() -> Key:
    """A key of a device or an issuer: P-256, as the signed instructions have it."""
    return ec.generate_private_key(ec.SECP256R1())


def make_root(name: str, *, now: datetime) -> Authority:
    """A root of its own; its key (P-384) belongs on a machine without a network."""
    key = ec.generate_private_key(ec.SECP384R1())
    subject = _named(name, "root")
    builder = _builder(subject, subject, key.public_key(), now, now + ROOT_LASTS)
    return Authority(
        _as_authority(builder, key.public_key(), path_length=1).sign(key, hashes.SHA384()), key
    )


def make_request(common_name: str, key: Key) -> bytes:
    """What a device or a coming issuer asks to have signed (PKCS #10, DER), made where the key is."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def sign_issuer(
    root: Authority, request: bytes, *, property_code: str, now: datetime
) -> x509.Certificate:
    """The certificate of a property's issuer. Raises CertificateRefused `request`, `key`, `name`, `root`."""
    key = _checked_request(request, property_code)
    if root.certificate.not_valid_after_utc < now + ISSUER_LASTS:
        raise CertificateRefused("root", "the root ends before the issuer would")
    builder = _builder(
        _named(property_code, "issuer"), root.certificate.subject, key, now, now + ISSUER_LASTS
    )
    return _as_authority(builder, key, path_length=0, by=root.certificate).sign(
        root.key, hashes.SHA384()
    )


def issue(issuer: Authority, request: bytes, *, serial: str, now: datetime) -> x509.Certificate:
    """A meter's or a concentrator's certificate for a year: CN is its serial number.

    Raises CertificateRefused `request` (none, or not signed by its own key), `key` (not P-256), `name`
    (of another device), `serial`, `issuer` (it ends before the certificate would).
    """
    if _SERIAL.fullmatch(serial) is None:
        raise CertificateRefused("serial", f"{serial!r} cannot be a serial number")
    key = _checked_request(request, serial)
    names = [x509.UniformResourceIdentifier(f"urn:prewatt:meter:{serial}")]
    return _leaf(issuer, key, serial, "device", names, (ExtendedKeyUsageOID.CLIENT_AUTH,), now)


def issue_head_end(issuer: Authority, key: Key, *, now: datetime) -> x509.Certificate:
    """What the head-end shows the broker."""
    return _leaf(
        issuer, key.public_key(), HEAD_END, "platform",
        [x509.UniformResourceIdentifier("urn:prewatt:head-end")],
        (ExtendedKeyUsageOID.CLIENT_AUTH,), now,
    )  # fmt: skip


def issue_broker(
    issuer: Authority, key: Key, *, hosts: Sequence[str], now: datetime
) -> x509.Certificate:
    """What the broker shows everybody, for the names and addresses under which it is reached."""
    return _leaf(
        issuer, key.public_key(), BROKER, "platform", [_host(each) for each in hosts],
        (ExtendedKeyUsageOID.SERVER_AUTH,), now,
    )  # fmt: skip


def revocation_list(
    issuer: Authority, revoked: Iterable[Revoked], *, now: datetime
) -> x509.CertificateRevocationList:
    """What an issuer has revoked. It is as long as the issuer believed: the broker refuses everybody when a
    list grows old, and a new one is handed to it, never fetched by it.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now)
        .next_update(issuer.certificate.not_valid_after_utc)
        .add_extension(x509.CRLNumber(int(now.timestamp() * 1_000)), critical=False)
        .add_extension(_known_as(issuer.certificate), critical=False)
    )
    for each in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(each.number)
            .revocation_date(each.at)
            .build()
        )
    return builder.sign(issuer.key, hashes.SHA256())


def sign_renewal(key: Key, request: bytes) -> bytes:
    """A device's word, by the key it has, that it wants a certificate for the key of its request."""
    return key.sign(_RENEWAL + request, ec.ECDSA(hashes.SHA256()))


def check_renewal(certificate: bytes, request: bytes, signature: bytes) -> None:
    """Raises CertificateRefused `signature` unless the holder of the certificate (DER) signed the request."""
    key = x509.load_der_x509_certificate(certificate).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey), "we sign no other"
    try:
        key.verify(signature, _RENEWAL + request, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise CertificateRefused("signature", "not signed by the key it would replace") from None


def key_digest(certificate: x509.Certificate) -> bytes:
    """SHA-256 of the public key (its SubjectPublicKeyInfo), by which a key is known."""
    return hashlib.sha256(_spki(certificate.public_key())).digest()


def signs_until(issuer: x509.Certificate) -> datetime:
    """Until when an issuer signs devices: nothing that it signs holds longer than it does itself."""
    return issuer.not_valid_after_utc - DEVICE_LASTS


def name_of(certificate: x509.Certificate) -> str:
    """Whose it is: its common name."""
    (found,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found.value)


def public_key_of(certificate: x509.Certificate) -> bytes:
    """The public key as DER (SubjectPublicKeyInfo)."""
    return _spki(certificate.public_key())


def request_digest(request: bytes) -> bytes:
    """The same of a request's key. Raises CertificateRefused `request`, `key`."""
    return hashlib.sha256(_spki(_checked_request(request, None))).digest()


def as_pem(*certificates: x509.Certificate) -> bytes:
    """One after the other, the device's own first, as TLS shows them."""
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)


def as_der(certificate: x509.Certificate) -> bytes:
    """As it is stored."""
    return certificate.public_bytes(serialization.Encoding.DER)


def from_der(stored: bytes) -> x509.Certificate:
    """The certificate of what is stored."""
    return x509.load_der_x509_certificate(stored)


def key_as_pem(key: Key) -> bytes:
    """A private key for a file that its owner alone reads."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


# --- inside ------------------------------------------------------------------------------------------


def _checked_request(request: bytes, common_name: str | None) -> ec.EllipticCurvePublicKey:
    """The key of a request that is signed by it, and names nobody else."""
    if len(request) > REQUEST_BYTES_MAX:
        raise CertificateRefused("request", f"a request of {len(request)} bytes")
    try:
        asked = x509.load_der_x509_csr(request)
        is_signed = asked.is_signature_valid
        key = asked.public_key()
        names = [each.value for each in asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except Exception as error:
        # Whatever the parser makes of hostile bytes, it is no request.
        raise CertificateRefused("request", f"not a certificate request: {error}") from None
    if not is_signed:
        raise CertificateRefused("request", "the request is not signed by its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateRefused("key", "a device's key is of P-256")
    if common_name is not None and names not in ([], [common_name]):
        raise CertificateRefused("name", f"the request is of another device than {common_name}")
    return key


def _leaf(
    issuer: Authority,
    key: ec.EllipticCurvePublicKey,
    common_name: str,
    unit: str,
    names: Sequence[x509.GeneralName],
    usages: Sequence[x509.ObjectIdentifier],
    now: datetime,
) -> x509.Certificate:
    ends = now + DEVICE_LASTS
    if (
        not issuer.certificate.not_valid_before_utc
        <= now
        < ends
        <= issuer.certificate.not_valid_after_utc
    ):
        raise CertificateRefused(
            "issuer", "the issuer does not hold as long as the certificate would"
        )
    builder = _builder(_named(common_name, unit), issuer.certificate.subject, key, now, ends)
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(_known_as(issuer.certificate), critical=False)
        .sign(issuer.key, hashes.SHA256())
    )


def _as_authority(
    builder: x509.CertificateBuilder,
    key: ec.EllipticCurvePublicKey,
    *,
    path_length: int,
    by: x509.Certificate | None = None,
) -> x509.CertificateBuilder:
    builder = (
        builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=path_length), critical=True
        )
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )
    return builder if by is None else builder.add_extension(_known_as(by), critical=False)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    ends: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(ends)
    )


def _named(common_name: str, unit: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    """A device signs what it says; an authority signs certificates and lists."""
    return x509.KeyUsage(
        digital_signature=signs, key_cert_sign=not signs, crl_sign=not signs,
        content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _known_as(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    found = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found.value)


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _spki(key: object) -> bytes:
    assert isinstance(key, ec.EllipticCurvePublicKey), "we sign no other"
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
