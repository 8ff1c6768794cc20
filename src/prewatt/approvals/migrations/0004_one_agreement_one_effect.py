"""Each agreement is taken for an effect of its own: ``sql/0004_one_agreement_one_effect.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0004_one_agreement_one_effect.sql"


class Migration(migrations.Migration):
    """Plain SQL."""

    dependencies: ClassVar = [("approvals", "0003_limits_of_corrections")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
