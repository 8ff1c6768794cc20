"""The coded words of the ledger: kinds of transfer and counter-accounts, stable for ever."""

from enum import IntEnum


class TransferKind(IntEnum):
    """What a transfer is; stored as ``smallint``, never renumbered."""

    OPENING = 1
    RECHARGE = 2
    USAGE = 3
    REFUND = 4
    ADJUSTMENT = 5
    WRITE_OFF = 6
    REVERSAL = 7
    MOVE = 8
    CORRECTION = 9
    DAILY = 10
    DEBT_RECOVERY = 11
    DEPOSIT = 12
    DEBT = 13


class CounterAccount(IntEnum):
    """The other side of a transfer, one per property; stored as ``smallint``, never renumbered."""

    CASH = 1
    BANK = 2
    ENERGY_REVENUE = 3
    STANDING_REVENUE = 4
    TAX_PAYABLE = 5
    FEE_REVENUE = 6
    DEMAND_REVENUE = 7
    OPENING_BALANCES = 8
    MOVE_CLEARING = 9
    ADJUSTMENTS = 10
    SUBSIDY_FUNDING = 11
    DEBTS = 12
    DEPOSITS = 13
    REFUNDS_PAYABLE = 14
    REBATES = 15
    #: What a payment to the cent leaves of an exact amount, to whoever's good it is.
    ROUNDING = 16
