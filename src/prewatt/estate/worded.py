"""Sentences that are English where they are made, and can be said again in another language.

What refuses a row knows no reader: the command line prints the sentence as it is, a page looks its
pattern up and puts the same values in.
"""

from __future__ import annotations

from collections.abc import Mapping


class Worded(str):
    """A sentence in English that keeps its pattern and the values in it, by their names."""

    pattern: str
    values: Mapping[str, str]


def worded(pattern: str, **values: object) -> Worded:
    """The sentence of a pattern such as ``"%(value)s is not a date."``."""
    named = {name: str(value) for name, value in values.items()}
    sentence = Worded(pattern % named)
    sentence.pattern, sentence.values = pattern, named
    return sentence
