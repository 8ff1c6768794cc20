"""Registers the web with Django: templates, static files and tags; it owns no tables."""

from django.apps import AppConfig


class WebConfig(AppConfig):
    """Names the package."""

    name = "prewatt.web"
    label = "web"

    def ready(self) -> None:
        """Write down each session that begins, and the end of one."""
        from prewatt.web import session

        session.keep_sessions()
