from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('moves', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='temporarylet',
            name='begun_at',
            field=models.DateTimeField(null=True),
        ),
        # Until now every let had begun when it was made.
        migrations.RunSQL(
            'UPDATE temporary_let SET begun_at = begins_at', migrations.RunSQL.noop
        ),
        migrations.RemoveConstraint(
            model_name='temporarylet',
            name='let_closes_for_a_reason',
        ),
        migrations.AddConstraint(
            model_name='temporarylet',
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(('close_reason', ''), ('closed_at__isnull', True), ('closed_by', '')),
                    models.Q(
                        ('close_reason__in', ('ended', 'left', 'silent', 'cancelled')),
                        ('closed_at__isnull', False),
                    ),
                    _connector='OR',
                ),
                name='let_closes_for_a_reason',
            ),
        ),
        migrations.AddIndex(
            model_name='temporarylet',
            index=models.Index(
                condition=models.Q(('begun_at__isnull', True), ('closed_at__isnull', True)),
                fields=['begins_at'],
                name='let_to_begin',
            ),
        ),
    ]
