"""Stable codes turned into sentences: states, gates, reasons, orders, messages, needs.

The packages below store codes and figures; what a person reads is decided here, once, in every
language. A code without a sentence is shown as its own words, so that nothing is ever hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from prewatt.core.baseline import Outcome
from prewatt.core.money import AmountRefused
from prewatt.core.rating import Component
from prewatt.core.vocabulary import (
    BoardState,
    DeliveryState,
    Gate,
    OrderKind,
    OrderState,
    RelayState,
)
from prewatt.core.written import narrowed

Text = str | Promise

STATE: Final[Mapping[BoardState, Text]] = {
    BoardState.ON: _("On"),
    BoardState.LOW: _("Low"),
    BoardState.EMERGENCY: _("Emergency credit"),
    BoardState.CUT: _("Cut"),
    BoardState.OFFLINE: _("Offline"),
    BoardState.VACANT: _("Vacant"),
    BoardState.TAMPER: _("Tamper"),
    BoardState.PROTECTED: _("Protected"),
}

#: The state as read out after a unit's number.
STATE_SPOKEN: Final[Mapping[BoardState, Text]] = {
    BoardState.ON: _("on"),
    BoardState.LOW: _("low"),
    BoardState.EMERGENCY: _("on emergency credit"),
    BoardState.CUT: _("cut"),
    BoardState.OFFLINE: _("offline"),
    BoardState.VACANT: _("vacant"),
    BoardState.TAMPER: _("tamper"),
    BoardState.PROTECTED: _("protected"),
}

RELAY: Final[Mapping[RelayState, Text]] = {
    RelayState.UNKNOWN: _("not read yet"),
    RelayState.CLOSED: _("closed"),
    RelayState.OPEN: _("open"),
}

ORDER_KIND: Final[Mapping[OrderKind, Text]] = {
    OrderKind.CONNECT: _("Connect"),
    OrderKind.DISCONNECT: _("Disconnect"),
    OrderKind.LIMIT: _("Limit"),
}

ORDER_STATE: Final[Mapping[OrderState, Text]] = {
    OrderState.DECIDED: _("Waiting to be sent"),
    OrderState.SENT: _("Sent, meter not confirmed"),
    OrderState.ACKNOWLEDGED: _("Meter answered, relay not read back"),
    OrderState.VERIFIED: _("Done, relay read back"),
    OrderState.FAILED: _("Failed"),
    OrderState.EXPIRED: _("Expired"),
    OrderState.SUPERSEDED: _("Replaced by a later order"),
    OrderState.WOULD_HAVE: _("Would have been sent"),
}

#: Which chip an order's state wears: a glyph and a state colour, never a tick on hope.
ORDER_LOOK: Final[Mapping[OrderState, tuple[str, str]]] = {
    OrderState.DECIDED: ("wait", "low"),
    OrderState.SENT: ("wait", "low"),
    OrderState.ACKNOWLEDGED: ("wait", "low"),
    OrderState.VERIFIED: ("check", "on"),
    OrderState.FAILED: ("tamper", "tamper"),
    OrderState.EXPIRED: ("offline", "offline"),
    OrderState.SUPERSEDED: ("offline", "offline"),
    OrderState.WOULD_HAVE: ("offline", "offline"),
}

DELIVERY: Final[Mapping[DeliveryState, Text]] = {
    DeliveryState.PENDING: _("Not sent yet"),
    DeliveryState.DELIVERED: _("Delivered"),
    DeliveryState.RETRYING: _("Not delivered, trying again"),
    DeliveryState.EXHAUSTED: _("Not delivered"),
    DeliveryState.WOULD_HAVE: _("Would have been sent"),
    DeliveryState.CANCELLED: _("Cancelled"),
}

DELIVERY_LOOK: Final[Mapping[DeliveryState, tuple[str, str]]] = {
    DeliveryState.PENDING: ("wait", "low"),
    DeliveryState.DELIVERED: ("check", "on"),
    DeliveryState.RETRYING: ("wait", "emergency"),
    DeliveryState.EXHAUSTED: ("tamper", "tamper"),
    DeliveryState.WOULD_HAVE: ("offline", "offline"),
    DeliveryState.CANCELLED: ("offline", "offline"),
}

REASON: Final[Mapping[str, Text]] = {
    "balance_left": _("There is credit left, so supply stays on."),
    "already_cut": _("Supply is already cut."),
    "all_gates_open": _("Credit was used up and every gate was open."),
    "balance_allows": _("The balance allows supply again."),
    "balance_below_reconnect": _("Supply stays cut: the balance does not yet allow it."),
    "already_connected": _("Supply is on; nothing had to be done."),
    "order_stands": _("An order for this already stands."),
    "relay_departed": _("The relay was open though nobody had decided a cut."),
    "held_reading_stale": _("Cut on hold: the last reading is too old."),
    "held_warning_not_delivered": _("Cut on hold: no warning has been delivered yet."),
    "held_window_closed": _("Cut on hold: outside the hours in which supply may be cut."),
    "held_protected": _("Never cut: this supply is protected."),
    "held_payment_in_flight": _("Cut on hold: a payment is on its way."),
    "held_brake_on": _("Cut on hold: the mass-cut brake is on."),
    "manual": _("Ordered by a person."),
    "move": _("Ordered with a change of tenant."),
    "tampering": _(
        "The meter was tampered with: its case withholds supply, and every gate was open."
    ),
    "expired_and_decided_again": _("The former order expired; it was decided again."),
}

#: What a part of the program that acts by itself is called, by what stands behind `system:` in its code.
PROGRAM: Final[Mapping[str, Text]] = {
    "demo": _("demonstration"),
    "devices": _("devices"),
    "head_end": _("head-end"),
    "history": _("history of the demonstration"),
    "import": _("import"),
    "instruct": _("instructions to meters"),
    "keys": _("signing keys"),
    "lets": _("lets"),
    "migrate": _("new release"),
    "notify": _("messages"),
    "oversight": _("watches"),
    "password": _("password command"),
    "posting": _("posting of days"),
    "readings": _("readings"),
    "rebates": _("rebates"),
    "rerating": _("rerating"),
    "supply": _("supply rules"),
    "trials": _("trials"),
    "worker": _("worker"),
}

#: Why an order is not done, as far as the meter or its silence tells.
FAILURE: Final[Mapping[str, Text]] = {
    "meter_clock_ahead": _("The meter's clock is ahead, so every command looks expired to it."),
    "command_late": _("The command reached the meter too late."),
    "meter_unsupported": _("The meter does not know this command."),
    "meter_failed": _("The meter could not carry it out."),
    "relay_not_as_wanted": _("The relay was read back otherwise than ordered."),
    "not_sent": _("It was never sent: there was no way to the meter."),
    "no_answer": _("The meter did not answer."),
    "not_read_back": _("The meter said yes, and its relay was not read back."),
}

MESSAGE: Final[Mapping[str, Text]] = {
    "supply.warning": _("Low balance"),
    "supply.emergency": _("Emergency credit started"),
    "supply.cut_planned": _("Warning before a cut"),
    "supply.cut": _("Supply was cut"),
    "supply.connected": _("Supply is on again"),
    "vending.recharged": _("Recharge received"),
    "billing.corrected": _("Charges corrected"),
    "vending.reversed": _("Recharge taken back"),
    "vending.moved_off": _("Credit moved to another account"),
    "vending.moved_on": _("Credit moved to this account"),
    "vending.credited": _("Credit given by the property"),
    "vending.uncredited": _("Credit taken by the property"),
    "vending.refund_due": _("Refund due"),
    "vending.refund_paid": _("Refund paid out"),
    "debts.opened": _("Debt written down"),
    "debts.agreement": _("Debt agreed anew"),
    "debts.reduced": _("Part of a debt paid"),
    "debts.paid": _("Debt paid"),
    "debts.written_off": _("Debt written off"),
}

ENTRY: Final[Mapping[str, Text]] = {
    "usage": _("Usage"),
    "daily": _("Charges by the day"),
    "correction": _("Correction"),
    "deposit": _("Deposit"),
    "debt_recovery": _("Debt repaid out of a recharge"),
    "reversal": _("Reversal"),
    "refund": _("Refund"),
    "adjustment": _("Adjustment"),
    "write_off": _("Write-off"),
    "opening": _("Opening balance"),
    "subsidy": _("Subsidy"),
    "debt": _("Debt"),
    "move": _("Credit moved between accounts"),
}

#: What a part of a charge is for.
COMPONENT: Final[Mapping[Component, Text]] = {
    Component.ENERGY: _("Energy"),
    Component.STANDING: _("Standing charge"),
    Component.TAX: _("Tax"),
    Component.FEE: _("Fee"),
    Component.DEMAND: _("Demand charge"),
    Component.SUBSIDY: _("Subsidy"),
    Component.DEBT: _("Debt"),
    Component.MINIMUM: _("Minimum bill"),
    Component.MAXIMUM: _("Maximum bill"),
    Component.REBATE: _("Rebate"),
    Component.DEPOSIT: _("Deposit"),
}

#: Why an announced peak gives nothing back.
PEAK_OUTCOME: Final = {
    Outcome.NOT_MEASURED: _("its hours were not measured"),
    Outcome.TOO_FEW_DAYS: _("too few days before it were measured"),
    Outcome.NO_REBATE: _("the plan or the group gives none"),
}

CHANNEL: Final[Mapping[str, Text]] = {
    "outbox": _("demonstration outbox"),
    "email": _("e-mail"),
}

WAY: Final[Mapping[str, Text]] = {
    "cash": _("Cash window"),
    "online": _("Online"),
    "transfer": _("Bank transfer"),
}

UNIT_KIND_COUNT: Final[Mapping[str, tuple[Text, Text]]] = {
    "flat": (_("flat"), _("flats")),
    "office": (_("office"), _("offices")),
    "shop": (_("shop"), _("shops")),
    "booth": (_("booth"), _("booths")),
    "plant": (_("plant room"), _("plant rooms")),
}

UNIT_KIND: Final[Mapping[str, Text]] = {
    "flat": _("Flat"),
    "office": _("Office"),
    "shop": _("Shop"),
    "booth": _("Booth"),
    "plant": _("Plant room"),
}

POINT_ROLE: Final[Mapping[str, Text]] = {
    "supply": _("supply"),
    "feeder": _("feeder"),
    "common": _("common area"),
    "sub": _("sub-meter"),
}

POINT_SOURCE: Final[Mapping[str, Text]] = {
    "grid": _("grid"),
    "generator": _("generator"),
    "other": _("other source"),
}

DUTY: Final[Mapping[str, Text]] = {
    "operator": _("Operator"),
    "administrator": _("Administrator"),
    "auditor": _("Auditor"),
    "tenant": _("Tenant"),
    "installer": _("Installer"),
    "owner": _("Owner"),
}

BAND: Final[Mapping[str, Text]] = {
    "night": _("Night"),
    "day": _("Day"),
    "peak": _("Peak"),
    "offpeak": _("Off-peak"),
    "off-peak": _("Off-peak"),
    "shoulder": _("Shoulder"),
    "flat": _("Single price"),
    "all": _("Single price"),
    "energy": _("Single price"),
}

#: What a season is called, where it has one of the common words for a code.
SEASON: Final[Mapping[str, Text]] = {
    "all_year": _("All year"),
    "spring": _("Spring"),
    "summer": _("Summer"),
    "autumn": _("Autumn"),
    "winter": _("Winter"),
    "rest": _("Rest of the year"),
}

#: The stretch in which steps or free energy are counted, as in "the first 50 kWh of …".
WINDOW_OF: Final[Mapping[str, Text]] = {
    "day": _("a day"),
    "month": _("a calendar month"),
    "billing_month": _("a billing month"),
    "quarter": _("a quarter of the year"),
    "season": _("a season"),
    "year": _("a year"),
    "purchase": _("a recharge"),
}

#: The same stretch as a choice.
WINDOW: Final[Mapping[str, Text]] = {
    "day": _("Each day"),
    "month": _("Each calendar month"),
    "billing_month": _("Each billing month"),
    "quarter": _("Each quarter"),
    "season": _("Each season"),
    "year": _("Each year"),
    "purchase": _("From recharge to recharge"),
}

STEP_KIND: Final[Mapping[str, Text]] = {
    "graduated": _("Each step's price for what lies in it"),
    "whole_usage": _("The reached step's price for everything"),
}

STEP_SCOPE: Final[Mapping[str, Text]] = {
    "all": _("All bands together"),
    "each": _("Each band by itself"),
}

SCALE: Final[Mapping[str, Text]] = {
    "none": _("As written"),
    "days": _("Times the days of the window"),
    "members": _("By persons of the household"),
    "contracted_kw": _("Times the contracted kW"),
}

TENANT_CHANGE: Final[Mapping[str, Text]] = {
    "reset": _("A new tenant starts at zero"),
    "carry": _("A new tenant goes on with the unit's count"),
}

COLLECT: Final[Mapping[str, Text]] = {
    "daily": _("Day by day"),
    "first_recharge": _("With the first recharge of a month"),
}

TAXABLE: Final[Mapping[str, Text]] = {
    "energy": _("Energy"),
    "standing": _("Standing charges"),
    "fee": _("Fees"),
    "demand": _("Demand charges"),
    "minimum": _("What a minimum adds"),
}

#: In lower case, inside a sentence.
TAXABLE_SAID: Final[Mapping[str, Text]] = {
    "energy": _("energy"),
    "standing": _("standing charges"),
    "fee": _("fees"),
    "demand": _("demand"),
    "minimum": _("what a minimum adds"),
}

TAX_FORM: Final[Mapping[str, Text]] = {
    "inclusive": _("in the prices"),
    "exclusive": _("on top"),
    "inclusive_compound": _("in the prices, also on the taxes before it"),
    "exclusive_compound": _("on top, also on the taxes before it"),
}

PER: Final[Mapping[str, Text]] = {
    "day": _("a day"),
    "month": _("a month"),
    "year": _("a year"),
    "hour": _("an hour"),
}

#: The choices of a plan's form that are not parts of a plan's own vocabulary.
LIMITS_FOR: Final[Mapping[str, Text]] = {
    "all": _("The same all year"),
    "season": _("Own limits in each season"),
    "band": _("Own limits of each band"),
}

DATED_FORM: Final[Mapping[str, Text]] = {
    "per_day": _("A day"),
    "per_month": _("A month"),
    "per_year": _("A year"),
}

FEE_FORM: Final[Mapping[str, Text]] = {
    "per_kwh": _("Each kWh"),
    "share": _("Per cent of the energy charge"),
    **DATED_FORM,
}

BOUND_FORM: Final[Mapping[str, Text]] = {
    "per_month": _("A month"),
    "per_year": _("A year"),
}

ALLOWANCE_FORM: Final[Mapping[str, Text]] = {
    "free_kwh": _("Free energy"),
    "per_kwh": _("Rebate on every kWh"),
}

#: A recharge cannot bring free energy.
ALLOWANCE_WINDOW: Final[Mapping[str, Text]] = {
    key: text for key, text in WINDOW.items() if key != "purchase"
}

OVERLAY_KIND: Final[Mapping[str, Text]] = {
    "critical_peak": _("Peaks, a day ahead"),
    "real_time": _("A price for every hour"),
}

LET_UNIT: Final[Mapping[str, Text]] = {
    "hour": _("Hour"),
    "day": _("Day"),
}

#: Units of a length of time in a form.
LENGTH_UNIT: Final[Mapping[str, Text]] = {
    "s": _("seconds"),
    "min": _("minutes"),
    "h": _("hours"),
    "d": _("days"),
}

DEMAND_MINUTES: Final[Mapping[str, Text]] = {
    minutes: minutes for minutes in ("5", "10", "15", "30", "60")
}

#: What the rules of a place ask, by the code of the rule; a rule without a sentence has its own text.
RULE: Final[Mapping[str, Text]] = {
    "purchase_cap": _(
        "Nobody pays more than the property paid for the energy, as far as the law allows."
    ),
    "direct_cap": _("Nobody pays more than a direct customer of the supplier would."),
    "basic_supply_cap": _("Nobody pays more than the permitted share of the basic supply tariff."),
    "no_fees": _("No fees of the property's own on top of the energy."),
    "loss_share": _("Losses of the property's own network stay within the limit."),
}

#: A rule that was checked, or could not be.
RULE_STATE: Final[Mapping[str, Text]] = {
    "holds": _("Holds"),
    "broken_refuse": _("Broken: an approval is refused"),
    "broken_warn": _("Broken: a warning to whoever approves"),
    "unknown": _("Could not be checked"),
    "not_looked_at": _("Not looked at in this trial; try again"),
}

#: Why a price rule could not be checked.
RULE_WHY: Final[Mapping[str, Text]] = {
    "no_supply_meter": _("the property has no meter at its feeder"),
    "supply_meter_not_read": _("the meter at the feeder was not read around both ends"),
}

#: Parts of a plan that a trial does not look at.
LEFT_OUT: Final[Mapping[str, Text]] = {
    "minimum": _("the minimum bill"),
    "maximum": _("the maximum bill"),
    "demand": _("demand charges"),
    "power_factor": _("what a low power factor adds to demand"),
}

TRIAL_STATE: Final[Mapping[str, Text]] = {
    "queued": _("Waiting"),
    "running": _("Running"),
    "done": _("Done"),
    "failed": _("Failed"),
}

TRIAL_SHOW: Final[Mapping[str, Text]] = {
    "more": _("Pay more"),
    "less": _("Pay less"),
    "same": _("Pay the same"),
    "cut": _("Would be cut"),
    "all": _("All accounts"),
}

TRIAL_SORT: Final[Mapping[str, Text]] = {
    "change": _("Change in money"),
    "share": _("Change in per cent"),
    "before": _("What they paid"),
    "unit": _("Unit"),
}

#: What has changed between two versions of a tariff.
PART: Final[Mapping[str, Text]] = {
    "name": _("Name of the plan"),
    "price": _("Price"),
    "band_label": _("Name of a band"),
    "hours": _("Hours"),
    "season": _("Days of the season"),
    "step_kind": _("How steps count"),
    "step_window": _("Steps begin again"),
    "step_scope": _("Steps and bands"),
    "step_limits": _("Step limits"),
    "step_scale": _("Size of the steps"),
    "step_members": _("Larger households"),
    "step_tenant": _("Steps when the tenant changes"),
    "standing": _("Standing charge"),
    "fee": _("Fee"),
    "collect": _("Collected"),
    "minimum": _("Minimum bill"),
    "maximum": _("Maximum bill"),
    "demand": _("Demand charge"),
    "demand_interval": _("Demand is measured over"),
    "demand_bands": _("Demand counts in"),
    "demand_ratchet": _("Demand is at least"),
    "power_factor": _("Least power factor"),
    "tax": _("Tax"),
    "tax_on": _("Tax is on"),
    "tax_form": _("Tax is"),
    "tax_days": _("Tax holds"),
    "allowance": _("Free energy"),
    "allowance_window": _("Free energy begins again"),
    "rebate": _("Rebate"),
    "event_price": _("Price in an announced peak"),
    "event_adder": _("On top in an announced peak"),
    "event_rebate": _("Given back in an announced peak"),
    "baseline_days": _("Compared with so many days before"),
    "baseline_highest": _("Of them only the highest"),
    "wait_hours": _("Hours until a rebate is paid"),
    "series_share": _("Share of the announced price"),
    "series_adder": _("On top of the announced price"),
    "debt_share": _("Share of a recharge for an agreed debt"),
    "debt_cap": _("At most for a debt in a week"),
    "let_fee": _("Rent of the place"),
    "let_deposit": _("Deposit"),
    "let_season": _("The plan holds"),
    "billing_day": _("Billing months begin on day"),
    "year_from": _("Years begin on"),
    "note": _("Note"),
    "source": _("Source"),
}

REFUSED: Final[Mapping[str, Text]] = {
    "malformed": _("Write the amount in digits, such as 25 or 25.50."),
    "too_many_decimals": _("Write at most two decimals."),
    "zero": _("The amount must be more than zero."),
    "negative": _("The amount must be more than zero."),
    "over_limit": _("That is more than one recharge may be."),
    "vending.recharge.amount_not_positive": _("The amount must be more than zero."),
    "vending.recharge.amount_over_limit": _("That is more than one recharge may be."),
    "vending.recharge.key_reused": _(
        "This form was already used for another recharge. Start again from the account."
    ),
    "vending.recharge.busy": _(
        "Too many recharges at this moment. Nothing was taken; press again."
    ),
    "vending.recharge.unknown_account": _("There is no such account that you may recharge."),
    "vending.recharge.paid_in_the_future": _("The time of payment lies in the future."),
    "vending.recharge.period_closed": _(
        "The books of that day are closed. Sell it again now. No money was taken."
    ),
    "vending.recharge.reference_malformed": _(
        "The reference is too long or has signs that cannot be printed. No money was taken."
    ),
    "vending.recharge.key_malformed": _(
        "This form cannot be used any more. Start again from the account. No money was taken."
    ),
    "vending.recharge.way_unknown": _("Choose how it is paid: cash, online or bank transfer."),
}

#: What validation says of a register reading, to whoever wrote it down or has to decide.
#: How the head-end reaches a device.
DRIVER: Final[Mapping[str, Text]] = {
    "mqtt_senml": _("MQTT (4G or a line)"),
    "lwm2m": _("LwM2M (NB-IoT)"),
    "lorawan": _("LoRaWAN"),
}
#: Why a meter is to hold no credit any more.
WALLET_END: Final[Mapping[str, Text]] = {
    "moved": _("somebody else pays by it"),
    "exchanged": _("it was taken down"),
    "protected": _("its supply is protected"),
    "by_hand": _("released by hand"),
    "no_key": _("its key is not believed any more"),
}
#: How a device's certificate stands.
CERTIFICATE: Final[Mapping[str, Text]] = {
    "holds": _("holds"),
    "expiring": _("ends soon"),
    "expired": _("expired"),
    "revoked": _("revoked"),
    "code": _("a code waits"),
    "none": _("none"),
    "": _("none"),
}
CERTIFICATE_SHOW: Final[Mapping[str, Text]] = {
    "all": _("All devices"),
    "holds": _("Certificate holds"),
    "expiring": _("Ends within 60 days"),
    "expired": _("Expired"),
    "revoked": _("Revoked"),
    "code": _("A code waits"),
    "none": _("Without certificate"),
}
CERTIFICATE_SORT: Final[Mapping[str, Text]] = {
    "ends": _("Ending first"),
    "serial": _("Serial"),
    "unit": _("Unit"),
}
#: Whether a device is let in, by the state of its certificate; one without is not asked for any.
LET_IN: Final[Mapping[str, Text]] = {
    "holds": _("It is let in by its certificate."),
    "revoked": _("Its certificate is revoked: nothing that it says is taken."),
    "expired": _("Its certificate has expired: nothing that it says is taken."),
    "code": _("A code waits for it to be enrolled."),
    "": _("It has none, and signs nothing."),
}
#: How one question about a fitted device stands.
MARK: Final[Mapping[str, Text]] = {
    "good": _("Answered"),
    "bad": _("Wrong"),
    "waits": _("Not yet"),
    "none": _("Not there"),
}
VERDICT: Final[Mapping[str, Text]] = {
    "mdm.vee.accepted": _("Accepted."),
    "mdm.vee.duplicate": _("This reading is known already; it changes nothing."),
    "mdm.vee.backfill": _("Accepted: it splits usage that is charged already."),
    "mdm.vee.conflict": _("There is another value of the same instant already."),
    "mdm.vee.backwards": _("This is lower than the last register that was accepted."),
    "mdm.vee.implausible": _("This is more than the meter can have counted."),
    "mdm.vee.future": _("The reading lies in the future."),
    "mdm.vee.before_opening": _("The reading lies before the time of who pays by this meter."),
    "mdm.vee.after_closing": _("The reading lies after the time of who paid by this meter."),
    "mdm.vee.negative": _("A register is never below zero."),
    "mdm.vee.unpriced": _("The account has no tariff, so nothing can be charged yet."),
    "mdm.vee.archived": _("The usage of that time is archived and can no longer be split."),
    "mdm.vee.too_close": _("This comes at almost the same instant as the reading before it."),
    "mdm.vee.worn": _("The usage of that time has been split too often already."),
}

HELD_STATE: Final[Mapping[str, Text]] = {
    "held": _("Waits for a decision"),
    "released": _("Released"),
    "discarded": _("Discarded"),
}

TABLE: Final[Mapping[str, Text]] = {
    "tariffs": _("Tariffs"),
    "buildings": _("Buildings"),
    "units": _("Units"),
    "metering_points": _("Metering points"),
    "meters": _("Meters"),
    "customers": _("Customers"),
    "accounts": _("Accounts"),
    "tenancies": _("Tenancies"),
}

DAY_MARK: Final[Mapping[str, Text]] = {
    "plain": _("a day like its weekday"),
    "holiday": _("public holiday"),
    "own": _("own holiday"),
    "worked": _("worked day"),
    "taken": _("no holiday here"),
}

DAY_KIND: Final[Mapping[str, Text]] = {
    "holiday": _("a holiday"),
    "ordinary": _("no holiday"),
    "workday": _("worked as another weekday"),
    "listed": _("what the list says"),
}

MOVE: Final[Mapping[str, Text]] = {
    "out": _("Tenant out"),
    "in": _("Tenant in"),
    "change": _("Change of tenant"),
}

PROTECTION: Final[Mapping[str, Text]] = {
    "none": _("Not protected"),
    "medical": _("Medical device"),
    "fire": _("Fire protection"),
    "lift": _("Lift"),
    "cold_store": _("Cold store"),
    "other": _("Another reason"),
}

GATE_OPEN: Final[Mapping[Gate, Text]] = {
    Gate.BALANCE_EXHAUSTED: _("Credit used up: yes, %(amount)s"),
    Gate.READING_FRESH: _("Reading fresh: %(at)s"),
    Gate.WARNING_DELIVERED: _("Warning delivered: %(at)s"),
    Gate.WINDOW_OPEN: _("Window open until %(at)s"),
    Gate.NOT_PROTECTED: _("Not protected"),
    Gate.NO_PAYMENT_IN_FLIGHT: _("No payment in flight"),
    Gate.BRAKE_OFF: _("Mass-cut brake off"),
}

GATE_CLOSED: Final[Mapping[Gate, Text]] = {
    Gate.BALANCE_EXHAUSTED: _("Credit used up: no, %(amount)s left"),
    Gate.READING_FRESH: _("Reading too old: %(at)s"),
    Gate.WARNING_DELIVERED: _("No warning delivered yet"),
    Gate.WINDOW_OPEN: _("Window closed, opens %(at)s"),
    Gate.NOT_PROTECTED: _("Protected: never cut"),
    Gate.NO_PAYMENT_IN_FLIGHT: _("A payment is on its way"),
    Gate.BRAKE_OFF: _("Mass-cut brake on"),
}


def band_name(code: str, label: str) -> str:
    """What a band is called: in the page's language when its label is only the code's common word."""
    plain = label.casefold().replace("-", "").replace(" ", "")
    common = {code.casefold().replace("-", ""), "allday", *_PLAIN_LABELS.get(code, ())}
    return said(BAND, code) if code in BAND and plain in common else label


def in_a_sentence(band: str) -> str:
    """A band's name in the middle of a sentence: our own words in lower case, others as written."""
    return band.lower() if band in {str(text) for text in BAND.values()} else band


#: How the common codes are labelled where nobody thought of another name.
_PLAIN_LABELS: Final[Mapping[str, tuple[str, ...]]] = {
    "flat": ("singleprice",),
    "all": ("singleprice", "energy"),
    "energy": ("singleprice",),
    "off-peak": ("offpeak",),
}


def said(table: Mapping[str, Text], code: str) -> str:
    """The text of a code, or the code's own words when it has none yet."""
    text = table.get(code)
    return str(text) if text is not None else code.replace(".", " ").replace("_", " ")


def refused_amount(refused: AmountRefused) -> str:
    """Why a text is no amount, to whoever wrote it."""
    if refused.reason != "ambiguous":
        return said(REFUSED, refused.reason)
    digits = "".join(each for each in narrowed(refused.text) if "0" <= each <= "9")
    return gettext(
        "“%(text)s” can mean thousands or decimals. Write %(whole)s, or an amount with at most two "
        "decimals."
    ) % {"text": refused.text.strip(), "whole": digits}


def numbered(one: Text, many: Text) -> Callable[[int], str]:
    """Choose between one and many; Chinese has the same word for both."""
    return lambda count: str(one if count == 1 else many)
