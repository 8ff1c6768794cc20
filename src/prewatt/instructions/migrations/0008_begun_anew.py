"""What a wallet begins from is known when its meter has answered: ``sql/0008_begun_anew.sql``."""

from pathlib import Path

from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql" / "0008_begun_anew.sql"


class Migration(migrations.Migration):

    dependencies = [
        ('instructions', '0007_told_of_keys'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='instructionstate',
            index=models.Index(condition=models.Q(('limit_w__gt', 0)), fields=['meter_id'], name='instruction_state_limited'),
        ),
        migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False),
    ]
