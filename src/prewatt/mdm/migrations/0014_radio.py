"""How devices are heard over a network server's radio: ``sql/0014_radio.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0014_radio.sql"


class Migration(migrations.Migration):
    """Plain SQL."""

    dependencies: ClassVar = [("mdm", "0013_withdrawn_plans")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
