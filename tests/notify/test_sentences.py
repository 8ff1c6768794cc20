"""Every message can be said in both languages, calmly, with whatever figures are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from prewatt.core.civil_time import instant_us
from prewatt.core.vocabulary import LevelKind
from prewatt.debts.models import Debt
from prewatt.notify.sentences import CODES, WARNINGS, Setting, UnsayableMessage, render
from prewatt.notify.texts_of_money import REASONS
from prewatt.vending.refunds import WAYS

#: Tuesday 14:30 in Berlin.
NOW = datetime(2026, 11, 17, 13, 30, tzinfo=UTC)
ENGLISH = Setting("en", "Europe/Berlin", "EUR", "Linden Court", "Ada Kern", "1001", "A-12")
CHINESE = replace(ENGLISH, language="zh-hans", customer_name="陈静", property_name="菩提苑")
FULL: dict[str, object] = {
    "level_kind": "money",
    "available_micro": 4_200_000,
    "emergency_micro": 5_000_000,
    "amount_micro": 20_000_000,
    "days_left_h": 51,
    "earliest_cut_us": instant_us(datetime(2026, 11, 23, 8, 0, tzinfo=UTC)),
    "at_us": instant_us(NOW - timedelta(minutes=5)),
    "receipt": 17,
    "debt": "D-3",
    "document": "V-2",
    "reason": "moved_out",
    "emergency_used_micro": 2_000_000,
    "debt_micro": 7_500_000,
    "left_micro": 6_000_000,
    "reopened_micro": 1_000_000,
    "share_ppm": 125_000,
    "weekly_cap_micro": 9_000_000,
}


def said(code: str, detail: Mapping[str, object], setting: Setting = ENGLISH) -> tuple[str, str]:
    return render(code=code, detail=detail, setting=setting, created_at=NOW, now=NOW)


@pytest.mark.parametrize("code", sorted(CODES))
@pytest.mark.parametrize("setting", [ENGLISH, CHINESE])
@pytest.mark.parametrize("detail", [FULL, {}, dict.fromkeys(FULL)])
def test_every_code_is_said_with_all_figures_and_with_none(
    code: str, setting: Setting, detail: dict[str, object]
) -> None:
    subject, body = said(code, detail, setting)
    assert subject and body.endswith("\n") and len(body.splitlines()) >= 3
    for text in (subject, body):
        assert "{" not in text and "None" not in text and "  " not in text


@pytest.mark.parametrize("code", sorted(CODES))
def test_no_message_threatens_or_blames(code: str) -> None:
    text = " ".join(said(code, FULL)).lower()
    for word in ("disconnect", "terminat", "failed", "overdue", "missing", "penalt", "service"):
        assert word not in text


def test_a_warning_leads_with_the_day_and_hour_and_a_forecast_says_about() -> None:
    subject, body = said("supply.warning", FULL)
    assert subject == "Your electricity runs out Thursday about 17:30"
    assert "about 2 days" not in body and "about 51 hours" in body
    assert "Hello Ada Kern,\n\n" in body
    assert "After that, emergency credit of €5.00 follows." in body
    assert "before Monday 09:00." not in body, "23 November is six days away"
    assert "At your usual use, supply is not cut before 23 Nov, 09:00." in body
    assert body.endswith("Linden Court, unit A-12, account 1001\n")


def test_chinese_is_written_with_its_own_punctuation_and_days() -> None:
    subject, body = said("supply.warning", FULL, CHINESE)
    assert subject == "电费余额预计周四 17:30 左右用完"
    assert "陈静，您好：" in body and "您的电费余额为 €4.20。" in body
    assert body.endswith("菩提苑，单元 A-12，账户 1001\n")


def test_the_last_levels_have_words_of_their_own() -> None:
    by_kind = {kind: said("supply.warning", FULL | {"level_kind": kind.word}) for kind in LevelKind}
    assert "Emergency credit of €5.00 has started" in by_kind[LevelKind.EMERGENCY][1]
    assert by_kind[LevelKind.EXHAUSTED][0] == "Supply may be cut from 23 Nov, 09:00"
    assert by_kind[LevelKind.MONEY] == by_kind[LevelKind.DAYS]
    assert set(WARNINGS) <= CODES


def test_a_negative_balance_has_a_true_minus_and_no_emergency_credit_is_not_mentioned() -> None:
    _, body = said("supply.warning", {"available_micro": -2_650_000, "emergency_micro": 0})
    assert "−€2.65" in body and "mergency" not in body


def test_a_forecast_counts_from_when_the_figures_were_true() -> None:
    yesterday = NOW - timedelta(hours=20)
    subject, _ = render(
        code="supply.warning", detail=FULL, setting=ENGLISH, created_at=yesterday, now=NOW
    )
    assert subject == "Your electricity runs out Wednesday about 21:30"
    late, _ = render(
        code="supply.warning",
        detail=FULL,
        setting=ENGLISH,
        created_at=NOW - timedelta(hours=60),
        now=NOW,
    )
    assert late == "Your electricity runs out within about an hour"


def test_days_are_named_so_that_a_letter_read_tomorrow_is_still_right() -> None:
    assert said("supply.cut", FULL)[0] == "Supply was cut Tuesday 14:25"
    assert said("supply.connected", FULL, CHINESE)[1].count("电表已于周二 14:25 确认") == 1


def test_a_receipt_says_amount_balance_and_how_long_it_lasts_where_that_is_known() -> None:
    detail = FULL | {"available_micro": 24_200_000, "days_left_h": 12 * 24 + 5}
    subject, body = said("vending.recharged", detail)
    assert subject == "Your recharge of €20.00 has arrived"
    for line in (
        "Your electricity balance is €24.20.",
        "At your usual use that is about 12 days.",
        "Receipt number 17.",
    ):
        assert f"{line}\n" in body
    _, chinese = said("vending.recharged", detail, CHINESE)
    for line in ("当前电费余额 €24.20。", "按平时用电，还可用约 12 天。", "收据编号 17。"):
        assert f"{line}\n" in chinese
    assert "usual" not in said("vending.recharged", detail | {"days_left_h": None})[1]
    assert "collected" not in body
    taken = detail | {"debt_micro": 5_000_000, "collected_micro": 1_250_000}
    assert "\n€5.00 of it went to your debts.\n" in said("vending.recharged", taken)[1]
    assert "其中 €1.25 用于随充值收取的费用。\n" in said("vending.recharged", taken, CHINESE)[1]


def test_a_reversal_says_what_it_means_for_balance_emergency_credit_and_debts() -> None:
    detail = FULL | {"available_micro": -5_000_000, "receipt": "R-12"}
    subject, body = said("vending.reversed", detail)
    assert subject == "Your recharge of €20.00 was taken back"
    for line in (
        "Your recharge of €20.00 was taken back, because its payment was reversed.",
        "Receipt R-12; document V-2.",
        "Your electricity balance is −€5.00.",
        "Emergency credit of €2.00 is in use.",
        "Debts that it had paid of are open again with €1.00 more.",
        "€7.50 had been used beyond that, and are written down as debt D-3.",
        "12.5% of each recharge goes to D-3, until it is paid.",
        "In seven days that is never more than €9.00.",
    ):
        assert f"{line}\n" in body, line
    _, chinese = said("vending.reversed", detail, CHINESE)
    for line in ("您的充值 €20.00 因付款被退回，已撤回。", "收据 R-12，单据 V-2。", "已用应急额度 €2.00。",
                 "超出部分 €7.50 已用掉，记为欠款 D-3。", "每次充值的 12.5% 用于偿还 D-3，直至还清。"):  # fmt: skip
        assert f"{line}\n" in chinese, line
    nothing = {"emergency_used_micro": 0, "debt_micro": 0, "reopened_micro": 0, "debt": "",
               "share_ppm": None, "weekly_cap_micro": None}  # fmt: skip
    _, plain = said("vending.reversed", detail | nothing)
    assert "debt" not in plain.lower() and "mergency" not in plain and "€0" not in plain


def test_debts_say_how_they_come_back_and_when_they_do_not_by_themselves() -> None:
    for share, line in (
        (250_000, "25% of each recharge goes to D-3, until it is paid."),
        (0, "Nothing of your recharges goes to D-3; the property office agrees with you how it is paid."),
    ):  # fmt: skip
        for code in ("debts.opened", "debts.agreement", "debts.reduced"):
            text = said(code, FULL | {"share_ppm": share, "weekly_cap_micro": 0})[1]
            assert f"{line}\n" in text and "seven days" not in text, (code, share)
    assert (
        "Your let cost more than was paid for it.\n"
        in said("debts.opened", FULL | {"reason": "let_shortfall"})[1]
    )
    assert "the property bears them" in said("debts.written_off", FULL)[1]
    assert said("debts.paid", FULL)[0] == "Debt D-3 is paid"


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_reason_of_a_debt_and_a_refund_has_its_words(lang: str) -> None:
    refunds = {"moved_out", "let.ended", "let.left", "let.silent", "let.cancelled", *WAYS}
    assert {code for code, said_in in REASONS if said_in == lang} == refunds | set(Debt.Reason)
    setting = CHINESE if lang == "zh" else ENGLISH
    for reason in refunds - set(WAYS):
        body = said("vending.refund_due", FULL | {"reason": reason, "document": "F-1"}, setting)[1]
        assert REASONS[reason, lang] in body and "F-1" in body and "€20.00" in body


def test_names_cannot_shape_a_message() -> None:
    nasty = replace(
        ENGLISH,
        customer_name="Eve\r\nBcc: all@example.org\r\n\r\nYou owe {balance}\x00\u2028!",
        property_name="L\r\nSubject: x",
        unit="A\n12",
    )
    subject, body = said("supply.warning", FULL, nasty)
    assert "\n" not in subject and "\r" not in subject + body and "\x00" not in body
    assert body.startswith("Hello Eve Bcc: all@example.org You owe {balance} !,\n\n")


def test_unknown_words_are_refused() -> None:
    with pytest.raises(UnsayableMessage):
        said("supply.unheard_of", {})
