"""Sessions of the short form: ``sql/0006_sessions.sql``."""

from pathlib import Path

from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql" / "0006_sessions.sql"


class Migration(migrations.Migration):

    dependencies = [
        ('instructions', '0005_released'),
    ]

    operations = [
        migrations.CreateModel(
            name='InstructionSession',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('property_id', models.BigIntegerField()),
                ('meter_id', models.BigIntegerField()),
                ('number', models.BigIntegerField()),
                ('meter_point', models.BinaryField(max_length=65)),
                ('platform_point', models.BinaryField(max_length=65, unique=True)),
                ('sealed_keys', models.BinaryField(max_length=512)),
                ('offer', models.BinaryField(max_length=512)),
                ('after_sequence', models.BigIntegerField()),
                ('forged', models.BigIntegerField(db_default=0)),
                ('begun_at', models.DateTimeField()),
                ('begun_by', models.CharField(max_length=80)),
                ('ended_at', models.DateTimeField(null=True)),
                ('ended_why', models.CharField(db_default='', max_length=8)),
            ],
            options={
                'db_table': 'instruction_session',
            },
        ),
        migrations.AddConstraint(
            model_name='instructionsession',
            constraint=models.UniqueConstraint(fields=('meter_id', 'number'), name='session_has_its_number'),
        ),
        migrations.AddConstraint(
            model_name='instructionsession',
            constraint=models.UniqueConstraint(condition=models.Q(('ended_at__isnull', True)), fields=('meter_id',), name='session_is_one_of_its_meter'),
        ),
        migrations.AddConstraint(
            model_name='instructionsession',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('ended_at__isnull', True), ('ended_why', '')), models.Q(('ended_at__isnull', False), ('ended_why__in', ['replaced', 'forged', 'ended'])), _connector='OR'), name='session_ends_for_a_reason'),
        ),
        migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False),
    ]
