"""Addresses of the web."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
