"""Settings that only the web process reads: templates, middleware, cookies, languages."""

from __future__ import annotations

import os
from pathlib import Path

from prewatt.web.client_address import proxies

TEMPLATE_FOLDER = Path(__file__).resolve().parent / "ui" / "templates"

ROOT_URLCONF = "prewatt.web.urls"
ASGI_APPLICATION = "prewatt.web.asgi.application"

MIDDLEWARE = [
    "prewatt.web.measure.Measured",
    "prewatt.web.origin.Traced",
    "django.middleware.security.SecurityMiddleware",
    "prewatt.web.headers.SecurityHeaders",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "prewatt.web.session.PlainText",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "prewatt.web.session.SignedIn",
    "prewatt.web.watched.Watched",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [TEMPLATE_FOLDER],
        "APP_DIRS": False,
        "OPTIONS": {
            "builtins": [
                "django.templatetags.i18n",
                "prewatt.web.ui.tags",
                "prewatt.web.ui.plan_tags",
                "prewatt.web.ui.alert_tags",
                "prewatt.web.ui.form_tags",
            ],
            "context_processors": ["prewatt.web.session.page_context"],
        },
    }
]

#: The reverse proxies whose X-Forwarded-For is believed, as addresses or networks; none by default.
TRUSTED_PROXIES = proxies(os.environ.get("PREWATT_TRUSTED_PROXY", ""))

LOGIN_URL = "/sign-in"
SESSION_ENGINE = "django.contrib.sessions.backends.db"
SESSION_COOKIE_NAME = "prewatt_session"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 12 * 3600
CSRF_COOKIE_NAME = "prewatt_csrf"
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "prewatt.web.errors.csrf_failed"
LANGUAGE_COOKIE_NAME = "prewatt_language"
LANGUAGE_COOKIE_SAMESITE = "Lax"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
#: The largest form is a price plan: some tens of fields, and hundreds where every band, season and kind
#: of day has its own.
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 4_000
