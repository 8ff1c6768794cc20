"""What Prewatt ships with speaks the reader's language: every pack and worked example has its words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import translation
from tests.fernmoor import Fernmoor

from prewatt.billing.resale import packs
from prewatt.reports.tariff_examples import examples
from prewatt.web.ui import shipped_words as words

HAN = re.compile(r"[\u4e00-\u9fff]")
TABLES = ("PACK_NAME", "PACK_APPLIES", "PACK_SOURCE", "EXAMPLE_NAME", "EXAMPLE_NOTE")


def test_every_pack_and_example_has_its_words() -> None:
    for table in TABLES:
        keys = packs() if table.startswith("PACK") else [each.key for each in examples()]
        assert set(getattr(words, table)) == set(keys), table


def test_they_are_said_in_both_languages() -> None:
    for table in TABLES:
        for key, text in getattr(words, table).items():
            with translation.override("en"):
                english = str(text)
            with translation.override("zh-hans"):
                chinese = str(text)
            assert english != chinese and HAN.search(chinese), (table, key)


def test_notes_say_what_the_files_say() -> None:
    """Whoever changes a file's note changes it here, and with it its Chinese."""
    with translation.override("en"):
        for each in examples():
            assert str(words.EXAMPLE_NOTE[each.key]) == each.tariff.note, each.key
        for pack in packs().values():
            assert str(words.PACK_APPLIES[pack.jurisdiction]).replace("’", "'") == pack.applies_to


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("/tariffs/rules", ("最高转售价格", "由物业自有配电网供电的商铺")),
        ("/tariffs/new", ("市集摊位，按天", "德国商铺")),
        ("/tariffs/new?start=example:merchant-season", ("圣诞市集，按季", "虚构的物业")),
    ],
)
def test_their_pages_are_chinese_in_chinese(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], page: str, said: tuple[str, ...]
) -> None:
    text = sign_in(fernmoor, language="zh-hans").get(page).content.decode()
    for each in said:
        assert each in text
    for english in ("Christmas market", "Maximum resale price", "An invented property"):
        assert english not in text
