"""What a meter understands, which keys it trusts, its limit; and which it is to have."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('instructions', '0006_sessions'),
    ]

    operations = [
        migrations.AddField(
            model_name='instructionstate',
            name='limit_s',
            field=models.BigIntegerField(null=True),
        ),
        migrations.AddField(
            model_name='instructionstate',
            name='limit_w',
            field=models.BigIntegerField(null=True),
        ),
        migrations.AddField(
            model_name='instructionstate',
            name='next_key',
            field=models.BinaryField(max_length=16, null=True),
        ),
        migrations.AddField(
            model_name='instructionstate',
            name='next_limit_s',
            field=models.BigIntegerField(null=True),
        ),
        migrations.AddField(
            model_name='instructionstate',
            name='next_limit_w',
            field=models.BigIntegerField(null=True),
        ),
        migrations.AddField(
            model_name='instructionstate',
            name='trusts',
            field=models.BinaryField(max_length=48, null=True),
        ),
        migrations.AddField(
            model_name='instructionstate',
            name='understands',
            field=models.BigIntegerField(db_default=0),
        ),
        migrations.AddIndex(
            model_name='instructionstate',
            index=models.Index(condition=models.Q(('next_key__isnull', False), ('next_limit_w__isnull', False), _connector='OR'), fields=['meter_id'], name='instruction_state_wished'),
        ),
        migrations.AddIndex(
            model_name='instructionstate',
            index=models.Index(condition=models.Q(('limit_w__gt', 0)), fields=['meter_id'], name='instruction_state_limited'),
        ),
        migrations.AddConstraint(
            model_name='instructionstate',
            constraint=models.CheckConstraint(condition=models.Q(('next_limit_w__isnull', True), models.Q(('next_limit_s', 0), ('next_limit_w', 0)), models.Q(('next_limit_s__gt', 0), ('next_limit_w__gt', 0)), _connector='OR'), name='instruction_state_limit_has_a_time'),
        ),
    ]
