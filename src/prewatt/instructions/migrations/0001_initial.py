"""Keys of meters and signed instructions: ``sql/0001_guards.sql``."""

from pathlib import Path

from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql" / "0001_guards.sql"


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('estate', '0005_drivers'),
        ('supply', '0007_agreed_supply'),
    ]

    operations = [
        migrations.CreateModel(
            name='InstructionState',
            fields=[
                ('meter_id', models.BigIntegerField(primary_key=True, serialize=False)),
                ('property_id', models.BigIntegerField()),
                ('last_sequence', models.BigIntegerField(db_default=0)),
                ('known_sequence', models.BigIntegerField(db_default=0)),
                ('known_hash', models.BinaryField(max_length=32)),
                ('credit_micro', models.BigIntegerField(db_default=0)),
                ('balance_micro', models.BigIntegerField(null=True)),
                ('refused', models.BigIntegerField(db_default=0)),
                ('said_at', models.DateTimeField(null=True)),
                ('verified_at', models.DateTimeField(null=True)),
                ('must_read', models.BooleanField(db_default=False)),
            ],
            options={
                'db_table': 'instruction_state',
            },
        ),
        migrations.CreateModel(
            name='Instruction',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('property_id', models.BigIntegerField()),
                ('meter_id', models.BigIntegerField()),
                ('sequence', models.BigIntegerField()),
                ('operation', models.SmallIntegerField()),
                ('argument', models.BigIntegerField()),
                ('order_id', models.BigIntegerField(null=True)),
                ('state', models.SmallIntegerField(db_default=2)),
                ('issued_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField()),
                ('command', models.BinaryField(max_length=512)),
                ('command_hash', models.BinaryField(max_length=32)),
                ('tries', models.PositiveIntegerField(db_default=1)),
                ('next_try_at', models.DateTimeField(null=True)),
                ('answer', models.BinaryField(max_length=512, null=True)),
                ('result', models.SmallIntegerField(null=True)),
                ('answered_at', models.DateTimeField(null=True)),
            ],
            options={
                'db_table': 'instruction',
                'indexes': [models.Index(condition=models.Q(('state__in', [1, 2])), fields=['meter_id'], name='instruction_live'), models.Index(condition=models.Q(('state__in', [1, 2])), fields=['expires_at'], name='instruction_ends')],
                'constraints': [models.UniqueConstraint(fields=('meter_id', 'sequence'), name='instruction_has_its_number'), models.CheckConstraint(condition=models.Q(models.Q(('answer__isnull', False), ('result__isnull', False), ('state__in', [3, 4])), models.Q(('answer__isnull', True), ('result__isnull', True), ('state__in', [1, 2, 5, 6])), _connector='OR'), name='instruction_ends_by_an_answer')],
            },
        ),
        migrations.CreateModel(
            name='MeterKey',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('property_id', models.BigIntegerField()),
                ('meter_id', models.BigIntegerField()),
                ('public_key', models.BinaryField(max_length=120)),
                ('key_id', models.BinaryField(max_length=16)),
                ('valid_from', models.DateTimeField()),
                ('valid_until', models.DateTimeField(null=True)),
                ('revoked_at', models.DateTimeField(null=True)),
                ('made_by', models.CharField(max_length=80)),
            ],
            options={
                'db_table': 'meter_key',
                'indexes': [models.Index(fields=['meter_id'], name='meter_key_by_meter')],
                'constraints': [models.UniqueConstraint(fields=('key_id',), name='meter_key_of_one_meter'), models.CheckConstraint(condition=models.Q(('valid_until__isnull', True), ('valid_until__gt', models.F('valid_from')), _connector='OR'), name='meter_key_has_a_time')],
            },
        ),
        migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False),
    ]
