"""Every address of the web."""

from __future__ import annotations

from django.urls import path, register_converter
from django.views.decorators.http import require_safe

from prewatt.web import session
from prewatt.web.api.app import api
from prewatt.web.console import (
    alerts,
    api_keys,
    approvals,
    audit,
    builder,
    calendar,
    charges,
    company_sign_in,
    correct,
    debts,
    estate,
    imports,
    lets,
    me,
    moves,
    narrow,
    people,
    picking,
    prices,
    readings,
    recharge,
    refunds,
    second_factor,
    supply_deeds,
    supply_rules,
    taking_back,
    tariffs,
    terms,
    trials,
    views,
)
from prewatt.web.live import live_view
from prewatt.web.ui import assets


class _Id:
    """An id of the database in an address: what no bigint holds is no address of ours."""

    regex = "[0-9]{1,18}"

    def to_python(self, value: str) -> int:
        return int(value)

    def to_url(self, value: int) -> str:
        return str(value)


register_converter(_Id, "id")

urlpatterns = [
    path("", require_safe(views.today_view)),
    path("today", require_safe(views.today_view)),
    path("mine", require_safe(narrow.mine_view)),
    path("figures", require_safe(narrow.figures_view)),
    path("work", require_safe(narrow.work_view)),
    path("work/<id:meter_id>", narrow.work_meter_view),
    path("alerts", require_safe(alerts.alerts_view)),
    path("alerts.csv", require_safe(alerts.alerts_csv)),
    path("alerts/<id:alert_id>", alerts.alert_view),
    path("accounts", require_safe(views.accounts_view)),
    path("accounts.csv", require_safe(views.accounts_csv)),
    path("customers/pick/<str:name>", require_safe(picking.pick_view)),
    path("accounts/former", require_safe(views.former_view)),
    path("accounts/<id:account_id>", require_safe(views.account_view)),
    path("accounts/<id:account_id>/recharge", recharge.recharge_view),
    path(
        "accounts/<id:account_id>/charges/<id:event_id>/<str:kind>/<str:day>",
        require_safe(charges.charge_view),
    ),
    path("units", require_safe(estate.units_view)),
    path("units.csv", require_safe(estate.units_csv)),
    path("units/<id:unit_id>", require_safe(estate.unit_view)),
    path("units/<id:unit_id>/move/<str:deed>", moves.move_view),
    path("units/<id:unit_id>/hand-over", require_safe(moves.hand_over_view)),
    path("property", require_safe(estate.property_view)),
    path("accounts/<id:account_id>/terms", terms.terms_view),
    path("accounts/<id:account_id>/correct-tariff", terms.correct_view),
    path("accounts/<id:account_id>/debts/new", debts.new_debt_view),
    path("recharges/<id:event_id>", require_safe(recharge.result_view)),
    path("recharges/<id:event_id>/take-back", taking_back.take_back_view),
    path("supply", require_safe(views.supply_view)),
    path("meters", require_safe(views.meters_view)),
    path("meters/held", require_safe(readings.held_view)),
    path("meters/held.csv", require_safe(readings.held_csv)),
    path("meters/held/<id:case_id>", readings.case_view),
    path("meters/<id:meter_id>/held", readings.together_view),
    path("meters/<id:meter_id>/read", readings.read_view),
    path("meters/<id:meter_id>/correct", correct.correct_view),
    path("meters/<id:meter_id>/exchange", readings.exchange_view),
    path("tariffs", require_safe(tariffs.tariffs_view)),
    path("tariffs.csv", require_safe(tariffs.tariffs_csv)),
    path("tariffs/new", builder.new_view),
    path("tariffs/announced", prices.announced_view),
    path("tariffs/announced.csv", require_safe(prices.announced_csv)),
    path("tariffs/announced/<id:event_id>/withdraw", prices.withdraw_view),
    path("tariffs/rules", prices.rules_view),
    path("tariffs/drafts/<str:code>", builder.draft_view),
    path("tariffs/drafts/<str:code>/trial", trials.trial_view),
    path("tariffs/drafts/<str:code>/trial.csv", require_safe(trials.trial_csv)),
    path("tariffs/drafts/<str:code>/propose", approvals.propose_view),
    path("approvals", require_safe(approvals.approvals_view)),
    path("approvals.csv", require_safe(approvals.approvals_csv)),
    path("approvals/limits", require_safe(approvals.limits_view)),
    path("approvals/limits/<str:kind>", approvals.limit_view),
    path("approvals/<id:proposal_id>", approvals.proposal_view),
    path("tariffs/<str:code>", require_safe(tariffs.tariff_view)),
    path("money", require_safe(views.money_view)),
    path("lets", require_safe(lets.lets_view)),
    path("lets.csv", require_safe(lets.lets_csv)),
    path("lets/new", lets.new_let_view),
    path("lets/<id:let_id>", lets.let_view),
    path("refunds", require_safe(refunds.refunds_view)),
    path("refunds.csv", require_safe(refunds.refunds_csv)),
    path("refunds/<id:refund_id>", refunds.refund_view),
    path("debts", require_safe(debts.debts_view)),
    path("debts.csv", require_safe(debts.debts_csv)),
    path("debts/<id:debt_id>", debts.debt_view),
    path("messages", require_safe(views.messages_view)),
    path("audit", require_safe(audit.audit_view)),
    path("audit.csv", require_safe(audit.audit_csv)),
    path("audit.zip", require_safe(audit.audit_zip)),
    path("audit/<id:event_id>", require_safe(audit.event_view)),
    path("audit/people", require_safe(audit.people_view)),
    path("audit/people/<id:user_id>", require_safe(audit.person_view)),
    path("audit/of/<str:kind>:<id:number>", require_safe(audit.object_view)),
    path("audit/findings", require_safe(audit.findings_view)),
    path("audit/findings.csv", require_safe(audit.findings_csv)),
    path("audit/findings/<id:finding_id>", audit.finding_view),
    path("audit/watches", require_safe(audit.watches_view)),
    path("audit/watches/new/<str:kind>", audit.new_watch_view),
    path("audit/watches/<id:watch_id>", audit.watch_view),
    path("property/import", imports.import_view),
    path("property/import.csv", require_safe(imports.import_csv)),
    path("property/calendar", calendar.calendar_view),
    path("property/calendar.csv", require_safe(calendar.calendar_csv)),
    path("property/brake", supply_deeds.brake_view),
    path("accounts/<id:account_id>/protection", supply_deeds.protection_view),
    path("accounts/<id:account_id>/by-hand", supply_deeds.by_hand_view),
    path("property/keys", require_safe(api_keys.keys_view)),
    path("property/keys.csv", require_safe(api_keys.keys_csv)),
    path("property/keys/new", api_keys.new_key_view),
    path("property/keys/<id:key_id>/end", api_keys.end_key_view),
    path("property/rules", require_safe(supply_rules.rules_view)),
    path("property/rules/change", supply_rules.change_view),
    path("property/switch", session.switch_property),
    path("live", live_view),
    path("me", me.me_view),
    path("me/passkeys/new", me.new_passkey_view),
    path("me/passkeys/<id:passkey_id>/remove", me.remove_passkey_view),
    path("me/recovery-codes", me.codes_view),
    path("me/lost", me.lost_view),
    path("me/password", me.password_view),
    path("me/sessions", me.end_sessions_view),
    path("people", people.people_view),
    path("people/invite", people.invite_view),
    path("people/<id:user_id>/duty", people.duty_view),
    path("people/<id:user_id>/<str:deed>", people.person_view),
    path("invited/<id:property_id>/<str:token>", people.invited_view),
    path("second-factor", me.app_view),
    path("passkeys/ask", second_factor.ask_view),
    path("passkeys/new", second_factor.new_passkey_options_view),
    path("sign-in", session.sign_in),
    path("sign-in/company", company_sign_in.ask_view),
    path("sign-in/company/back", company_sign_in.back_view),
    path("sign-in/factor", second_factor.at_sign_in_view),
    path("sign-in/passkeys/ask", second_factor.ask_view),
    path("sign-in/passkeys/new", second_factor.new_passkey_options_view),
    path("sign-out", session.sign_out),
    path("preferences", session.preferences),
    path("healthz", require_safe(views.healthy)),
    path("api/v1/", api.urls),
    path("static/<path:name>", require_safe(assets.serve)),
]

handler400 = "prewatt.web.errors.bad_request"
handler403 = "prewatt.web.errors.forbidden"
handler404 = "prewatt.web.errors.not_found"
handler500 = "prewatt.web.errors.broken"
