"""What is wrong with a table of an import, in the reader's language.

The sentences are those that the command line prints (`estate.worded`); their patterns are looked up here.
"""

from __future__ import annotations

from django.utils.translation import gettext

from prewatt.estate.worded import Worded
from prewatt.web.ui import refusals


def in_words(sentence: Worded) -> str:
    """A sentence in the language of the page; the reason why a tariff is refused has its own words."""
    values = dict(sentence.values)
    if "reason" in values:
        values["reason"] = refusals.sentence(values["reason"]).rstrip(".\N{IDEOGRAPHIC FULL STOP}")
    return gettext(sentence.pattern) % values
