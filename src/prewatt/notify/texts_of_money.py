"""What customers are told of money that moves otherwise than by a recharge: back, aside, or owed.

Each says how much, why, under which number, and what it means: the balance, what is in use of
emergency credit, what is left of a debt, and how it comes back. Nobody is blamed.
"""

from __future__ import annotations

from typing import Final

from prewatt.notify.texts import Text

_ASK: Final = {
    "en": "If you have questions, please speak to the property office.",
    "zh": "如有疑问，请联系物业服务处。",
}
_BALANCE: Final = {
    "en": "Your electricity balance is {balance}.",
    "zh": "当前电费余额 {balance}。",
}
#: How a debt comes back; the first where it takes something of recharges.
_RECOVERY: Final = {
    "en": (
        "{share} of each recharge goes to {debt}, until it is paid.",
        "In seven days that is never more than {weekly_cap}.",
        "Nothing of your recharges goes to {debt_at_rest}; the property office agrees with you how it is paid.",
    ),
    "zh": (
        "每次充值的 {share} 用于偿还 {debt}，直至还清。",
        "七天内最多扣 {weekly_cap}。",
        "充值不会用于偿还 {debt_at_rest}；还款方式请与物业服务处商定。",
    ),
}
#: What taking a recharge back has left, whyever it was.
_TAKEN_BACK: Final = {
    "en": (
        "Receipt {receipt}; document {document}.",
        _BALANCE["en"],
        "Emergency credit of {emergency_used} is in use.",
        "Debts that it had paid of are open again with {reopened} more.",
        "{debt_amount} had been used beyond that, and are written down as debt {debt}.",
        *_RECOVERY["en"],
        _ASK["en"],
    ),
    "zh": (
        "收据 {receipt}，单据 {document}。",
        _BALANCE["zh"],
        "已用应急额度 {emergency_used}。",
        "该笔充值曾偿还的欠款已恢复，合计 {reopened}。",
        "超出部分 {debt_amount} 已用掉，记为欠款 {debt}。",
        *_RECOVERY["zh"],
        _ASK["zh"],
    ),
}

TEXTS_OF_MONEY: Final[dict[tuple[str, str], Text]] = {
    ("vending.reversed", "en"): Text(
        ("Your recharge of {amount} was taken back", "A recharge was taken back"),
        (
            "Your recharge of {amount} was taken back, because its payment was reversed.",
            *_TAKEN_BACK["en"],
        ),
    ),
    ("vending.reversed", "zh"): Text(
        ("充值 {amount} 已撤回", "一笔充值已撤回"),
        ("您的充值 {amount} 因付款被退回，已撤回。", *_TAKEN_BACK["zh"]),
    ),
    ("vending.moved_off", "en"): Text(
        ("{amount} that came by mistake have left your account", "Credit has left your account"),
        (
            "A recharge of {amount} had come to your account by mistake. It is now where it was paid for.",
            *_TAKEN_BACK["en"],
        ),
    ),
    ("vending.moved_off", "zh"): Text(
        ("误入的 {amount} 已转出", "误入的充值已转出"),
        ("一笔 {amount} 的充值误入您的账户，现已转到应得的账户。", *_TAKEN_BACK["zh"]),
    ),
    ("vending.moved_on", "en"): Text(
        ("{amount} have come to your account", "Credit has come to your account"),
        (
            "A recharge of {amount} had gone to another account by mistake. All of it is yours now.",
            "Receipt {receipt}; document {document}.",
            _BALANCE["en"],
            _ASK["en"],
        ),
    ),
    ("vending.moved_on", "zh"): Text(
        ("{amount} 已转入您的账户", "充值已转入您的账户"),
        (
            "一笔 {amount} 的充值曾误入其他账户，现已全部转入您的账户。",
            "收据 {receipt}，单据 {document}。",
            _BALANCE["zh"],
            _ASK["zh"],
        ),
    ),
    ("vending.credited", "en"): Text(
        ("{amount} were given to your account", "Credit was given to your account"),
        (
            "The property has given your account {amount}; you have nothing to pay for it.",
            _BALANCE["en"],
            _ASK["en"],
        ),
    ),
    ("vending.credited", "zh"): Text(
        ("您的账户获赠 {amount}", "您的账户获得赠送余额"),
        ("物业向您的账户赠送了 {amount}，您无需付款。", _BALANCE["zh"], _ASK["zh"]),
    ),
    ("vending.uncredited", "en"): Text(
        ("{amount} were taken off your account", "Your account was adjusted"),
        (
            "The property has taken {amount} off your account to put a mistake right.",
            _BALANCE["en"],
            _ASK["en"],
        ),
    ),
    ("vending.uncredited", "zh"): Text(
        ("您的账户被扣减 {amount}", "您的账户有一笔调整"),
        ("为更正差错，物业从您的账户扣减了 {amount}。", _BALANCE["zh"], _ASK["zh"]),
    ),
    ("debts.opened", "en"): Text(
        ("Debt {debt}: {amount} was written down", "A debt was written down"),
        (
            "{amount} was written down as debt {debt} of your account.",
            "{reason}",
            *_RECOVERY["en"],
            _BALANCE["en"],
            "You can also pay it at the property office.",
            _ASK["en"],
        ),
    ),
    ("debts.opened", "zh"): Text(
        ("欠款 {debt}：已记 {amount}", "已记一笔欠款"),
        (
            "您的账户已记欠款 {debt}，金额 {amount}。",
            "{reason}",
            *_RECOVERY["zh"],
            _BALANCE["zh"],
            "也可到物业服务处缴清。",
            _ASK["zh"],
        ),
    ),
    ("debts.agreement", "en"): Text(
        ("How debt {debt} is paid was agreed anew", "How a debt is paid was agreed anew"),
        (
            "{owed} are left of debt {debt}.",
            *_RECOVERY["en"],
            _ASK["en"],
        ),
    ),
    ("debts.agreement", "zh"): Text(
        ("欠款 {debt} 的还款约定已更改", "欠款的还款约定已更改"),
        ("欠款 {debt} 尚余 {owed}。", *_RECOVERY["zh"], _ASK["zh"]),
    ),
    ("debts.reduced", "en"): Text(
        ("{amount} of debt {debt} are paid", "Part of a debt is paid"),
        (
            "{amount} of debt {debt} are paid. Thank you.",
            "{owed} are left of it.",
            *_RECOVERY["en"],
            _BALANCE["en"],
            "Receipt {receipt}.",
        ),
    ),
    ("debts.reduced", "zh"): Text(
        ("欠款 {debt} 已还 {amount}", "欠款已还一部分"),
        (
            "欠款 {debt} 已还 {amount}，谢谢。",
            "尚余 {owed}。",
            *_RECOVERY["zh"],
            _BALANCE["zh"],
            "收据 {receipt}。",
        ),
    ),
    ("debts.paid", "en"): Text(
        ("Debt {debt} is paid", "A debt is paid"),
        (
            "The last {amount} of debt {debt} are paid. Thank you.",
            "Nothing more of your recharges goes to it.",
            _BALANCE["en"],
            "Receipt {receipt}.",
        ),
    ),
    ("debts.paid", "zh"): Text(
        ("欠款 {debt} 已还清", "欠款已还清"),
        (
            "欠款 {debt} 的最后 {amount} 已还清，谢谢。",
            "今后充值不再用于偿还这笔欠款。",
            _BALANCE["zh"],
            "收据 {receipt}。",
        ),
    ),
    ("debts.written_off", "en"): Text(
        ("Debt {debt} has ended", "A debt has ended"),
        (
            "{amount} that were left of debt {debt} are no longer asked for: the property bears them.",
            "Nothing more of your recharges goes to it, and your balance stays as it is.",
            _ASK["en"],
        ),
    ),
    ("debts.written_off", "zh"): Text(
        ("欠款 {debt} 已免除", "欠款已免除"),
        (
            "欠款 {debt} 剩余的 {amount} 不再收取，由物业承担。",
            "今后充值不再用于偿还这笔欠款，余额不变。",
            _ASK["zh"],
        ),
    ),
    ("vending.refund_due", "en"): Text(
        ("{amount} are yours to have back", "You have a refund to come"),
        (
            "{reason}",
            "{amount} are left on your account and come back to you.",
            "The property office pays them out, in cash or by bank transfer.",
            "Refund {document}.",
            _ASK["en"],
        ),
    ),
    ("vending.refund_due", "zh"): Text(
        ("您有 {amount} 待退", "您有一笔退款待领"),
        (
            "{reason}",
            "账户中还剩 {amount}，将退还给您。",
            "由物业服务处以现金或银行转账方式退还。",
            "退款单 {document}。",
            _ASK["zh"],
        ),
    ),
    ("vending.refund_paid", "en"): Text(
        ("Your refund of {amount} was paid out", "Your refund was paid out"),
        ("Your refund of {amount} was paid out.", "{reason}", "Refund {document}.", _ASK["en"]),
    ),
    ("vending.refund_paid", "zh"): Text(
        ("退款 {amount} 已付", "退款已付"),
        ("您的退款 {amount} 已付。", "{reason}", "退款单 {document}。", _ASK["zh"]),
    ),
}

#: Why, by the stable word that the deed has for it, and the language.
REASONS: Final[dict[tuple[str, str], str]] = {
    ("agreed", "en"): "It was agreed with you.",
    ("agreed", "zh"): "已与您商定。",
    (
        "arrears",
        "en",
    ): "Your balance was below zero. It is lifted by this amount, and the debt stands beside it.",
    ("arrears", "zh"): "余额曾低于零：余额已补上该金额，欠款另记。",
    ("let_shortfall", "en"): "Your let cost more than was paid for it.",
    ("let_shortfall", "zh"): "您短租的费用超过已付金额。",
    ("reversed_payment", "en"): "A payment was reversed after its credit had been used.",
    ("reversed_payment", "zh"): "一笔付款在额度用掉之后被退回。",
    ("moved_credit", "en"): "Credit that was not yours had been used.",
    ("moved_credit", "zh"): "误入的额度已被用掉。",
    ("moved_out", "en"): "You have moved out.",
    ("moved_out", "zh"): "您已迁出。",
    ("let.ended", "en"): "Your let has ended.",
    ("let.ended", "zh"): "您的短租已结束。",
    ("let.left", "en"): "Your let was ended early.",
    ("let.left", "zh"): "您的短租已提前结束。",
    ("let.silent", "en"): "Your let has ended. Its meter was silent, so its last reading counts.",
    ("let.silent", "zh"): "您的短租已结束。电表未回应，以最后一次读数为准。",
    ("let.cancelled", "en"): "Your let was cancelled before it began.",
    ("let.cancelled", "zh"): "您的短租在开始前已取消。",
    ("cash", "en"): "It was paid in cash.",
    ("cash", "zh"): "以现金支付。",
    ("transfer", "en"): "It was paid by bank transfer.",
    ("transfer", "zh"): "以银行转账支付。",
}
