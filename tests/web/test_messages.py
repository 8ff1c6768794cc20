"""Every text of templates and code has its Chinese, with the same variables, and nothing is left over."""

from __future__ import annotations

import re

import polib
import pytest
from django.template import Context, Template
from django.utils import translation

from prewatt.web.ui import messages


@pytest.mark.parametrize("language", messages.LANGUAGES)
def test_every_text_is_translated(language: str) -> None:
    kept = {
        (entry.msgid, entry.msgid_plural): entry
        for entry in polib.pofile(str(messages.po_path(language)))
    }
    found = {(text.msgid, text.plural) for text in messages.find_texts()}
    assert len(found) > 200
    assert found - kept.keys() == set(), "run python -m prewatt.web.ui.messages and translate"
    assert kept.keys() - found == set(), "texts that nothing uses any more"
    for (msgid, plural), entry in kept.items():
        said = entry.msgstr_plural[0] if plural else entry.msgstr
        assert said, msgid
        assert not entry.fuzzy, msgid
        variables = set(re.findall(r"%\((\w+)\)s", plural or msgid))
        assert set(re.findall(r"%\((\w+)\)s", said)) == variables, msgid


def test_chinese_uses_full_width_punctuation_after_han() -> None:
    for entry in polib.pofile(str(messages.po_path("zh_Hans"))):
        for said in entry.msgstr_plural.values() if entry.msgid_plural else [entry.msgstr]:
            assert not re.search(r"[\u4e00-\u9fff][,;!?]", said), said


def test_the_extraction_sees_each_way_of_marking_a_text() -> None:
    texts = {text.msgid for text in messages.find_texts()}
    # A template's plain text, its block with a variable, a lazy text and a plural of the code.
    assert {"Floor board", "Runs out %(when)s", "Emergency credit", "%(n)s recharge"} <= texts


def test_a_sign_of_per_cent_in_a_template_is_found_where_django_looks_it_up() -> None:
    messages.compile_all()
    text = Template('{% load i18n %}{% translate "Share of each recharge, %" %}')
    with translation.override("zh-hans"):
        assert text.render(Context()) == "每次充值扣回比例（%）"
