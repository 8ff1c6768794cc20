"""Adds the proof that cash, ledger and meter credit are the same, kept with its time."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Append-only: a proof says what was so at its time."""

    dependencies: ClassVar = [("vending", "0003_sets")]
    operations: ClassVar = [
        migrations.CreateModel(
            name="BooksProof",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("property_id", models.BigIntegerField()),
                ("proved_at", models.DateTimeField()),
                ("cash_micro", models.BigIntegerField()),
                ("ledger_micro", models.BigIntegerField()),
                ("meters_micro", models.BigIntegerField()),
                ("made_by", models.CharField(max_length=80)),
            ],
            options={
                "db_table": "books_proof",
                "indexes": [
                    models.Index(fields=["property_id", "proved_at"], name="books_proof_latest")
                ],
            },
        ),
    ]
