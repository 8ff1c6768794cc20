"""Loads that other systems hold: usage of one meter over time."""
