"""Issuers, one-time codes and certificates of devices. Written by functions of the database alone."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q


class DeviceIssuer(models.Model):
    """The certificate of a property's issuer; its key lies in the safe. ``certificate`` is DER."""

    property_id = models.BigIntegerField()
    certificate = models.BinaryField()
    key_sha256 = models.BinaryField(max_length=32, unique=True)
    not_after = models.DateTimeField()
    made_at = models.DateTimeField()

    class Meta:
        db_table = "device_issuer"
        indexes: ClassVar = [
            models.Index(fields=["property_id", "-made_at"], name="issuers_of_property")
        ]


class DeviceCode(models.Model):
    """A code that lets the device with one serial number be enrolled, once. ``code_sha256`` is of 100 random bits."""

    property_id = models.BigIntegerField()
    serial = models.CharField(max_length=32)
    code_sha256 = models.BinaryField(max_length=32, unique=True)
    made_by = models.CharField(max_length=80)
    made_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "device_code"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("made_at")), name="device_code_lasts"
            )
        ]


class DeviceCertificate(models.Model):
    """A certificate (DER) of a device; its latest is the one that nothing has replaced.

    ``number`` is the certificate's own, in hexadecimal; ``key_sha256`` of its public key. ``follows`` is the
    certificate by whose key it was asked for, None at an enrolment.
    """

    property_id = models.BigIntegerField()
    serial = models.CharField(max_length=32)
    issuer = models.ForeignKey(DeviceIssuer, on_delete=models.PROTECT)
    number = models.CharField(max_length=40, unique=True)
    certificate = models.BinaryField()
    key_sha256 = models.BinaryField(max_length=32, unique=True)
    follows = models.OneToOneField("self", on_delete=models.PROTECT, null=True)
    not_after = models.DateTimeField()
    made_at = models.DateTimeField()
    replaced_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)
    revoked_by = models.CharField(max_length=80, blank=True)
    revoked_why = models.CharField(max_length=200, blank=True)

    class Meta:
        db_table = "device_certificate"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["serial"],
                condition=Q(replaced_at__isnull=True),
                name="device_has_one_certificate",
            ),
            models.CheckConstraint(
                condition=Q(not_after__gt=F("made_at")), name="device_certificate_lasts"
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["issuer"],
                condition=Q(revoked_at__isnull=False),
                name="revoked_by_issuer",
            )
        ]
