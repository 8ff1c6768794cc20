"""A charged reading is put right as it was agreed to: ``sql/0005_agreed_edits.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0005_agreed_edits.sql"


class Migration(migrations.Migration):
    """Plain SQL."""

    dependencies: ClassVar = [
        ("moves", "0004_lets_take_turns"),
        ("approvals", "0004_one_agreement_one_effect"),
        ("billing", "0014_agreed_terms"),
        ("fleet", "0001_initial"),
        ("mdm", "0014_radio"),
    ]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
