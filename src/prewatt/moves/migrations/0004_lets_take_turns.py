from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('moves', '0003_hot_rows_by_property'),
    ]

    operations = [
        migrations.AddField(
            model_name='temporarylet',
            name='tried_at',
            field=models.DateTimeField(null=True),
        ),
    ]
