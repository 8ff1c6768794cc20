"""Gives events their origin, their login and their transaction: ``sql/0002_origins.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql" / "0002_origins.sql"


def _text(name: str) -> migrations.AddField:
    return migrations.AddField("auditevent", name, models.CharField(db_default="", max_length=64))


def _index(name: str, *fields: str) -> migrations.AddIndex:
    return migrations.AddIndex("auditevent", models.Index(fields=fields, name=name))


class Migration(migrations.Migration):
    """Plain SQL: the defaults are made of settings of the transaction, which Django has no words for."""

    dependencies: ClassVar = [("audit", "0001_initial")]
    operations: ClassVar = [
        migrations.RunSQL(
            SQL.read_text(encoding="utf-8"),
            elidable=False,
            state_operations=[
                *(_text(name) for name in ("request_id", "duty", "address", "browser", "login")),
                migrations.AddField(
                    "auditevent", "transaction", models.BigIntegerField(db_default=None, null=True)
                ),
                migrations.AddField("auditevent", "proposal_id", models.BigIntegerField(null=True)),
                migrations.RemoveIndex("auditevent", "audit_by_time"),
                migrations.RemoveIndex("auditevent", "audit_by_subject"),
                _index("audit_by_time", "property_id", "happened_at", "id"),
                _index("audit_by_subject", "property_id", "subject", "happened_at", "id"),
                _index("audit_by_actor", "property_id", "actor", "happened_at", "id"),
                _index("audit_by_code", "property_id", "code", "happened_at", "id"),
                _index("audit_by_transaction", "transaction"),
            ],
        )
    ]
