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
    "prewatt.web.boundary.Boundary",
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
                "prewatt.web.ui.tamper_tags",
                "prewatt.web.ui.credit_tags",
                "prewatt.web.ui.field_tags",
                "prewatt.web.ui.form_tags",
                "prewatt.web.ui.audit_tags",
                "prewatt.web.ui.fleet_tags",
            ],
            "context_processors": ["prewatt.web.session.page_context"],
        },
    }
]

#: The reverse proxies whose X-Forwarded-For is believed, as addresses or networks; none by default.
TRUSTED_PROXIES = proxies(os.environ.get("PREWATT_TRUSTED_PROXY", ""))

#: Whether browsers come by TLS, which a proxy speaks for us. It says so of each request; `Boundary` lets no
#: other through. Browsers then keep cookies of ours from every other host, and come by TLS for a year.
TLS = os.environ.get("PREWATT_TLS") == "1"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TLS else None
SECURE_HSTS_SECONDS = 365 * 86400 if TLS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = TLS
COOKIE_PREFIX = "__Host-" if TLS else ""

LOGIN_URL = "/sign-in"
SESSION_ENGINE = "django.contrib.sessions.backends.db"
SESSION_COOKIE_NAME = f"{COOKIE_PREFIX}prewatt_session"
SESSION_COOKIE_SECURE = TLS
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 12 * 3600
CSRF_COOKIE_NAME = f"{COOKIE_PREFIX}prewatt_csrf"
CSRF_COOKIE_SECURE = TLS
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "prewatt.web.errors.csrf_failed"
LANGUAGE_COOKIE_NAME = f"{COOKIE_PREFIX}prewatt_language"
LANGUAGE_COOKIE_SAMESITE = "Lax"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
#: The largest form is a price plan: some tens of fields, and hundreds where every band, season and kind
#: of day has its own.
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 4_000
#: A property's tables; `console.imports` says in words that it takes half as many.
DATA_UPLOAD_MAX_NUMBER_FILES = 40
