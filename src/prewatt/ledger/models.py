"""Documents and periods of the ledger. The hot tables are plain SQL: see ``sql/``."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class DocumentSeries(models.Model):
    """The next number of one series of a legal entity; taken under its row lock, so no gaps."""

    legal_entity_id = models.BigIntegerField()
    series = models.CharField(max_length=16)
    last_number = models.BigIntegerField(default=0)

    class Meta:
        db_table = "document_series"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["legal_entity_id", "series"], name="series_once"),
            models.CheckConstraint(condition=models.Q(last_number__gte=0), name="series_counts_up"),
        ]


class Document(models.Model):
    """A numbered document: a receipt now, statements and invoices later."""

    property_id = models.BigIntegerField()
    legal_entity_id = models.BigIntegerField()
    series = models.CharField(max_length=16)
    number = models.BigIntegerField()
    kind = models.CharField(max_length=16)
    account_id = models.BigIntegerField()
    event_id = models.BigIntegerField()
    issued_at = models.DateTimeField()
    amount_micro = models.BigIntegerField()

    class Meta:
        db_table = "document"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["legal_entity_id", "series", "number"], name="document_number"
            ),
            models.CheckConstraint(
                condition=models.Q(number__gt=0), name="document_number_positive"
            ),
        ]


class LedgerPeriod(models.Model):
    """How far a property's books are closed: no service date before ``open_from`` may enter."""

    property_id = models.BigIntegerField(primary_key=True)
    open_from = models.DateField()

    class Meta:
        db_table = "ledger_period"
