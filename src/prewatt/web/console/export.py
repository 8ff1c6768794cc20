"""Lists as CSV: plain decimals for figures, local times with their offset, and no cell that a
spreadsheet would run as a formula.

A column of times says in its head whose local time it is, so a file is read like the page beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Protocol

from django.utils.translation import get_language
from django.utils.translation import gettext as _

from prewatt.core.money import MICRO
from prewatt.estate.sheets import RowError
from prewatt.reports.alerts import AlertList
from prewatt.reports.api_keys import KeyList
from prewatt.reports.audit_trail import EventRow
from prewatt.reports.audit_watches import Findings
from prewatt.reports.calendar import CalendarPage
from prewatt.reports.certificates import CertifiedDevice
from prewatt.reports.debts import DebtList, RefundList
from prewatt.reports.estate import UnitRow
from prewatt.reports.fleet import Fleet
from prewatt.reports.held import HeldRow
from prewatt.reports.lets import LetList
from prewatt.reports.lists import AccountRow, Listing
from prewatt.reports.meter_credit import CreditRow
from prewatt.reports.meter_orders import OrderRow
from prewatt.reports.price_pages import EventList
from prewatt.reports.proposals import ProposalList
from prewatt.reports.tamper import CaseList
from prewatt.reports.tariff_pages import TariffList
from prewatt.reports.tariff_trial import TrialPage
from prewatt.reports.today import Place
from prewatt.web.console.sheet_writer import guarded
from prewatt.web.ui import (
    alert_words,
    approval_words,
    audit_words,
    credit_tags,
    fleet_tags,
    fleet_words,
    import_words,
    key_words,
    money_words,
    proposal_words,
    sentences,
    tamper_words,
)
from prewatt.web.ui import format as fmt
from prewatt.web.ui.alert_words import Speech


class Writer(Protocol):
    """What is needed of a CSV writer."""

    def writerow(self, row: list[str], /) -> object:
        """Write one row."""


def decimal(micro: int) -> str:
    """An exact plain decimal of at least two places, for programs: `-3.41`, `0.000001`."""
    sign, size = ("-", -micro) if micro < 0 else ("", micro)
    whole, part = divmod(size, MICRO)
    digits = f"{part:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{digits}"


def accounts(found: Iterable[AccountRow], place: Place) -> Iterator[list[str]]:
    """The accounts of a selection, one row each, under a head row."""
    head = (
        _("Account"),
        _("Unit"),
        _("Building"),
        _("Customer"),
        _("Meter"),
        _("State"),
    )
    zone = place.time_zone
    yield [*head, f"{_('Balance')} {place.currency}", _timed(_("Runs out about"), zone)]
    for row in found:
        words = (row.number, row.unit, row.building, row.customer, row.meter)
        yield [
            *(guarded(word) for word in words),
            str(sentences.STATE[row.state]),
            decimal(row.balance_micro),
            _time(row.runs_out_at, zone),
        ]


def units(found: Iterable[UnitRow]) -> Iterator[list[str]]:
    """The units of a selection, one row each, under a head row."""
    yield [
        *(_("Unit"), _("Building"), _("Kind"), _("Floor"), _("Tenant"), _("Meter"), _("State")),
    ]
    for row in found:
        words = (row.name, row.building, str(sentences.UNIT_KIND_COUNT[row.kind][0]))
        yield [
            *(guarded(word) for word in words),
            str(row.floor),
            guarded(row.customer),
            guarded(row.serial),
            str(sentences.STATE[row.state]),
        ]


def calendar(writer: Writer, page: CalendarPage) -> None:
    """Write the special days of a year, one row each, under a head row."""
    writer.writerow([_("The day"), _("What it is"), _("Name or note"), _("It counts as")])
    for each in page.special:
        counts = (
            ""
            if each.counts_as is None
            else fmt.weekday_name(each.counts_as, get_language() or "en")
        )
        writer.writerow(
            [
                each.day.isoformat(),
                str(sentences.DAY_MARK[each.mark.value]),
                guarded(each.name),
                counts,
            ]
        )


def import_errors(writer: Writer, rows: Sequence[RowError]) -> None:
    """Write what is wrong with the tables of an import, one place each, under a head row."""
    writer.writerow([_("Table"), _("Row"), _("Column"), _("What is wrong"), _("What to do")])
    for row in rows:
        words = (row.column, *(import_words.in_words(each) for each in (row.problem, row.remedy)))
        writer.writerow([row.sheet, str(row.row), *(guarded(word) for word in words)])


def held(found: Iterable[HeldRow], zone: str) -> Iterator[list[str]]:
    """Held readings, one row each, under a head row; registers in kWh, times of a zone."""
    head = (
        *(_("Meter"), _("Unit"), _("Customer"), _timed(_("Read"), zone), _("Register, kWh")),
        *(_("Last register, kWh"), _("Reason"), _timed(_("Received"), zone), _("State")),
        *(_("Decided by"), _("Why")),
    )
    yield list(head)
    for row in found:
        yield [
            *(guarded(word) for word in (row.serial, row.unit, row.customer)),
            _time(row.read_at, zone, "seconds"),
            f"{row.value_wh // 1000}.{row.value_wh % 1000:03d}",
            f"{row.watermark_wh // 1000}.{row.watermark_wh % 1000:03d}",
            str(sentences.said(sentences.VERDICT, row.verdict)),
            _time(row.received_at, zone, "seconds"),
            str(sentences.said(sentences.HELD_STATE, row.state)),
            guarded(row.closed_by),
            guarded(row.close_reason),
        ]


def fleet(found: Fleet) -> Iterator[list[str]]:
    """Devices, one row each, under a head row; times of the place's zone."""
    zone = found.place.time_zone
    yield [
        *(
            _("Meter"),
            _("Unit"),
            _("Driver"),
            _("Model"),
            _("Firmware"),
            _("Configuration"),
            _("Gateway"),
        ),
        *(_timed(_("Last heard"), zone), _("Success"), _("Signal"), "SNR", _("Frames heard")),
        _("Lost on the air"),
    ]
    for row in found.devices:
        words = (
            row.serial,
            row.unit,
            row.driver,
            row.model,
            row.firmware,
            row.configuration,
            row.gateway,
        )
        figures = (row.rssi_dbm, row.snr_db_tenths, row.heard, row.lost)
        rssi, snr, heard, lost = ("" if each is None else str(each) for each in figures)
        yield [
            *(guarded(word) for word in words),
            _time(row.seen_at, zone, "seconds"),
            *(
                "" if row.success is None else str(row.success),
                rssi,
                snr and f"{int(snr) / 10:.1f}",
                heard,
                lost,
            ),
        ]


def meter_orders(found: Iterable[OrderRow], place: Place) -> Iterator[list[str]]:
    """Orders to meters, one row each, under a head row; times of the place's zone."""
    zone = place.time_zone
    yield [
        *(_("Order"), _("Meter"), _("Unit"), _("State"), _("Reason"), _("Made by"), _("Bulk")),
        *(_timed(_("Made"), zone), _("Tries"), _timed(_("Sent"), zone), _timed(_("Ended"), zone)),
        _("What came of it"),
    ]
    for row in found:
        yield [
            fleet_tags.told_name(row),
            *(guarded(row.serial), guarded(row.unit)),
            *(str(fleet_words.ORDER_STATE[row.state]), guarded(fleet_tags.told_why(row))),
            *(guarded(row.made_by), "" if row.bulk_id is None else str(row.bulk_id)),
            *(_time(row.at, zone, "seconds"), str(row.tries)),
            *(_time(row.sent_at, zone, "seconds"), _time(row.ended_at, zone, "seconds")),
            fleet_tags.told_result(row),
        ]


def tariffs(writer: Writer, found: TariffList) -> None:
    """Write the tariffs of a selection, one row each, under a head row."""
    zone = found.place.time_zone
    head = (
        *(_("Code"), _("Tariff"), _("Version"), _timed(_("In force from"), zone), _("Accounts")),
        *(_("Next version"), _timed(_("From"), zone), _("Draft"), _("Made by")),
        _timed(_("Changed"), zone),
    )
    writer.writerow(list(head))
    for row in found.rows:
        draft = row.draft
        writer.writerow(
            [
                guarded(row.code),
                guarded(row.name),
                "" if row.number is None else str(row.number),
                _time(row.since, zone),
                str(row.accounts),
                "" if row.next_number is None else str(row.next_number),
                _time(row.next_from, zone),
                "" if draft is None else str(draft.edition),
                "" if draft is None else guarded(draft.made_by),
                _time(draft.changed_at if draft else None, zone),
            ]
        )


def trial(writer: Writer, page: TrialPage) -> None:
    """Write the accounts of a trial's selection, with exact amounts; nothing before there is a result."""
    currency = page.place.currency
    head = (_("Account"), _("Unit"), _("Customer"), _("Energy kWh"))
    sums = (f"{each} {currency}" for each in (_("Before"), _("After"), _("Change")))
    writer.writerow([*head, *sums, _("Change in per cent"), _("Would be cut on")])
    for row in page.result.rows if page.result else ():
        ppm = row.change_ppm
        writer.writerow(
            [
                *(guarded(word) for word in (row.number, row.unit, row.customer)),
                f"{row.energy_wh // 1000}.{row.energy_wh % 1000:03d}",
                *(decimal(each) for each in (row.before_micro, row.after_micro, row.change_micro)),
                "" if ppm is None else decimal(ppm * 100),
                row.first_cut_day.isoformat() if row.first_cut_day and row.would_be_cut else "",
            ]
        )


def alerts(writer: Writer, found: AlertList) -> None:
    """Write alerts, one row each, under a head row."""
    head = (_("Alert"), _("What happened"), _("Unit"), _("Customer"), _("Account"), _("Meter"))
    zone = found.place.time_zone
    ends = (_timed(_("Since"), zone), _timed(_("Closed"), zone), _("Closed by"), _("Note"))
    writer.writerow([*head, *ends])
    speech = Speech(found.place, found.now, get_language() or "en")
    for row in found.rows:
        words = (row.unit, row.customer, row.number, row.serial)
        writer.writerow(
            [
                alert_words.name_of(row.code),
                guarded(alert_words.what_happened(row, speech)),
                *(guarded(each) for each in words),
                _time(row.opened_at, zone),
                _time(row.closed_at, zone),
                *(guarded(each) for each in (row.closed_by, row.close_note)),
            ]
        )


def tamper_cases(writer: Writer, found: CaseList) -> None:
    """Write cases of tampering, one row each, under a head row."""
    zone = found.place.time_zone
    head = (
        _("Case"),
        _("State"),
        _("Unit"),
        _("Customer"),
        _("Account"),
        _("Meter"),
        _("Evidence"),
    )
    times = (_timed(_("First"), zone), _timed(_("Last"), zone), _timed(_("Looked at"), zone))
    ends = (_("Looked at by"), _timed(_("Closed"), zone), _("Closed by"), _("Why"), _("Note"))
    writer.writerow([*head, *times, *ends])
    for row in found.rows:
        writer.writerow(
            [
                str(tamper_words.KIND[row.kind]),
                str(tamper_words.STATE[row.state]),
                *(guarded(each) for each in (row.unit, row.customer, row.number, row.serial)),
                str(row.count),
                *(_time(at, zone) for at in (row.first_at, row.last_at, row.looked_at)),
                guarded(row.looked_by),
                _time(row.closed_at, zone),
                guarded(row.closed_by),
                str(tamper_words.REASON.get(row.close_reason, "")),
                guarded(row.close_note),
            ]
        )


def lets(writer: Writer, found: LetList) -> None:
    """Write lets, one row each, with exact amounts."""
    currency = found.place.currency
    zone = found.place.time_zone
    spans = (_timed(each, zone) for each in (_("Begin"), _("End"), _("Ended")))
    head = (_("Unit"), _("Customer"), _("Account"), _("Plan"), *spans)
    sums = (_("Rent"), _("Deposit"), _("Balance"), _("Rent given back"), _("Refund"))
    writer.writerow([*head, *(f"{each} {currency}" for each in sums), _timed(_("Paid out"), zone)])
    for row in found.rows:
        amounts = (
            *(row.fee_micro, row.deposit_micro, row.available_micro),
            *(row.fee_back_micro, row.refund_micro),
        )
        writer.writerow(
            [
                *(guarded(each) for each in (row.who.unit, row.who.customer, row.who.number)),
                guarded(row.plan),
                *(_time(at, zone) for at in (row.begins_at, row.ends_at, row.closed_at)),
                *(decimal(each) for each in amounts),
                _time(row.refund_paid_at, zone),
            ]
        )


def refunds(writer: Writer, found: RefundList) -> None:
    """Write refunds, one row each, with exact amounts."""
    zone = found.place.time_zone
    booked, paid_at = _timed(_("Booked"), zone), _timed(_("Paid out"), zone)
    head = (_("Refund"), _("Unit"), _("Customer"), _("Account"), booked, _("Reason"))
    paid = (paid_at, _("How"), _("By"), _("Reference"))
    sums = (f"{each} {found.place.currency}" for each in (_("Amount"), _("Rounding")))
    writer.writerow([*head, *sums, *paid])
    for row in found.rows:
        writer.writerow(
            [
                row.code,
                *(guarded(each) for each in (row.who.unit, row.who.customer, row.who.number)),
                _time(row.made_at, zone),
                sentences.said(money_words.REFUND_REASON, row.reason),
                decimal(row.amount_micro),
                decimal(row.rounding_micro),
                _time(row.paid_at, zone),
                sentences.said(money_words.REFUND_WAY, row.paid_way) if row.paid_way else "",
                *(guarded(each) for each in (row.paid_by, row.paid_reference)),
            ]
        )


def api_keys(writer: Writer, found: KeyList) -> None:
    """Write keys of programs, one row each; their secrets are nowhere."""
    zone = found.place.time_zone
    made, until, used = (_timed(name, zone) for name in (_("Made"), _("Until"), _("Last used")))
    writer.writerow(
        [
            _("For"),
            _("Key"),
            _("What it may do"),
            _("Made by"),
            _("Approved by"),
            made,
            until,
            _("Ended by"),
            used,
        ]
    )
    for row in found.rows:
        may = ", ".join(sentences.said(key_words.PERMISSION, each) for each in row.permissions)
        writer.writerow(
            [
                guarded(row.name),
                f"pwk_{row.public_id}_…",
                may,
                guarded(row.made_by),
                guarded(row.approved_by),
                _time(row.made_at, zone),
                _time(row.until, zone),
                guarded(row.ended_by),
                _time(row.last_used_at, zone),
            ]
        )


def proposals(writer: Writer, found: ProposalList) -> None:
    """Write proposals of every kind, one row each."""
    zone = found.place.time_zone
    head = (_("Number"), _("Kind"), _("What"), _("Amount"), _("Others needed"), _("Agreed by"))
    made, ended = _timed(_("Proposed"), zone), _timed(_("Ended"), zone)
    writer.writerow(
        [*head, _("Reason"), _("Proposed by"), made, _("State"), _("Ended by"), ended, _("Answer")]
    )
    for row in found.rows:
        title = proposal_words.title(row, found.place, get_language() or "en")
        is_counted = row.kind in proposal_words.COUNTED
        amount = str(row.amount) if is_counted else decimal(row.amount) if row.amount else ""
        writer.writerow(
            [
                str(row.proposal_id),
                sentences.said(proposal_words.PROPOSAL_KIND, row.kind),
                guarded(title),
                amount,
                str(row.needed),
                guarded(", ".join(row.agreed_by)),
                *(guarded(each) for each in (row.reason, row.made_by)),
                _time(row.made_at, zone),
                sentences.said(approval_words.PROPOSAL_STATE, row.state),
                guarded(row.ended_by),
                _time(row.ended_at, zone),
                guarded(row.answer),
            ]
        )


def events_of_audit(found: Iterable[EventRow], place: Place) -> Iterator[list[str]]:
    """Events of the audit, one row each, under a head row."""
    zone = place.time_zone
    yield [
        *(
            _("Number"),
            _timed(_("When"), zone),
            _("Who"),
            _("Acted as"),
            _("What was done"),
            _("Code"),
        ),
        *(_("About"), _("Object"), _("Details"), _("Address"), _("Browser"), _("Request")),
        *(_("Login"), _("Proposal")),
    ]
    for row in found:
        yield [
            str(row.event_id),
            _time(row.happened_at, zone, "seconds"),
            guarded(row.who or row.actor),
            row.duty,
            audit_words.named(row.code),
            row.code,
            guarded(row.about),
            guarded(row.subject),
            guarded(json.dumps(row.detail, sort_keys=True, ensure_ascii=False)),
            guarded(row.address),
            row.browser,
            row.request_id,
            row.login,
            "" if row.proposal_id is None else str(row.proposal_id),
        ]


def findings(writer: Writer, found: Findings) -> None:
    """Write what watches found, one row each, under a head row."""
    place = found.place
    zone = place.time_zone
    head = (_("Finding"), _timed(_("When"), zone), _("Who acted"), _("About"), _("Details"))
    writer.writerow([*head, _("Answered by"), _timed(_("Answered"), zone), _("Note")])
    for row in found.rows:
        writer.writerow(
            [
                str(audit_words.WATCH[row.kind]),
                _time(row.happened_at, zone),
                guarded(row.who),
                guarded(row.about or row.subject),
                guarded(
                    audit_words.found(row, place.currency, place.time_zone, get_language() or "en")
                ),
                guarded(row.seen_by),
                _time(row.seen_at, zone),
                guarded(row.note),
            ]
        )


def debts(writer: Writer, found: DebtList) -> None:
    """Write debts, one row each, with exact amounts."""
    currency, zone = found.place.currency, found.place.time_zone
    since = _timed(_("Since"), zone)
    head = (_("Debt"), _("Unit"), _("Customer"), _("Account"), since, _("Reason"))
    sums = (f"{each} {currency}" for each in (_("Owed at first"), _("Left"), _("Weekly cap")))
    writer.writerow([*head, *sums, _("Share in per cent"), _timed(_("Closed"), zone), _("State")])
    for row in found.rows:
        amounts = (row.principal_micro, row.left_micro, row.weekly_cap_micro)
        writer.writerow(
            [
                row.code,
                *(guarded(each) for each in (row.who.unit, row.who.customer, row.who.number)),
                _time(row.opened_at, zone),
                sentences.said(money_words.DEBT_REASON, row.reason.value),
                *(decimal(each) for each in amounts),
                decimal(row.share_ppm * 100),
                _time(row.closed_at, zone),
                sentences.said(money_words.DEBT_ENDING, row.ending),
            ]
        )


def events(writer: Writer, found: EventList, zone: str) -> None:
    """Write announced peaks, one row each, in the local time of a zone."""
    spans = (_timed(each, zone) for each in (_("From"), _("Until"), _("Announced")))
    ends = (_timed(each, zone) for each in (_("Withdrawn"), _("Ended")))
    writer.writerow([_("Group"), *spans, _("By"), _("Accounts"), *ends])
    for row in found.rows:
        writer.writerow(
            [
                guarded(row.group),
                *(_time(at, zone) for at in (row.from_at, row.until_at, row.announced_at)),
                guarded(row.by),
                str(row.accounts),
                *(
                    _time(at, zone)
                    for at in (row.withdrawn_at, row.ends_at if row.withdrawn_at else None)
                ),
            ]
        )


def _timed(head: str, zone: str) -> str:
    """The head of a column of times."""
    return _("%(what)s (%(zone)s)") % {"what": head, "zone": zone}


def _time(at: datetime | None, zone: str, precision: str = "minutes") -> str:
    """The local time with its offset: `2026-11-17T14:30+01:00`."""
    return "" if at is None else fmt.local(at, zone).isoformat(timespec=precision)


def certificates(writer: Writer, found: Listing[CertifiedDevice]) -> None:
    """Write devices with their certificates, one row each."""
    zone = found.place.time_zone
    until, revoked = (_timed(name, zone) for name in (_("Until"), _("Revoked")))
    writer.writerow([_("Device"), _("Unit"), _("Certificate"), _("Number"), until, revoked])
    for row in found.rows:
        writer.writerow(
            [
                guarded(row.serial),
                guarded(row.unit),
                sentences.said(sentences.CERTIFICATE, row.state),
                row.number,
                _time(row.not_after, zone),
                _time(row.revoked_at, zone),
            ]
        )


def credit_in_meters(writer: Writer, found: Listing[CreditRow]) -> None:
    """Write meters that sign with the credit in them, one row each."""
    zone, currency = found.place.time_zone, found.place.currency
    writer.writerow(
        [
            _("Meter"), _("Unit"), _("Account"), _("Credit"), _("Key"),
            f"{_('Balance in the meter')} {currency}", f"{_('By the ledger')} {currency}",
            f"{_('On its way to the meter')} {currency}", _timed(_("Last signed"), zone),
            _("Refused by it"),
        ]
    )  # fmt: skip
    for row in found.rows:
        writer.writerow(
            [
                guarded(row.serial), guarded(row.unit), guarded(row.number),
                sentences.said(credit_tags.CREDIT_STATE, row.state),
                _("valid") if row.has_key else _("none that is valid"),
                *(
                    "" if micro is None else decimal(micro)
                    for micro in (row.balance_micro, row.expected_micro, row.on_way_micro)
                ),
                _time(row.verified_at, zone), str(row.refused),
            ]
        )  # fmt: skip
