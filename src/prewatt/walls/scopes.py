"""Which rows a role sees: the conditions of row-level security."""

from __future__ import annotations

from collections.abc import Mapping

#: A setting that was local to a transaction is empty afterwards, not absent: both mean no property.
#: In a SELECT of its own the setting is read once to a statement, and not once to a row.
_SEEN = "(SELECT nullif(current_setting('prewatt.properties', true), '')::bigint[])::bigint[]"
SCOPE = f"property_id = ANY ({_SEEN})"
#: Where the property of a row is not its ``property_id`` column.
SCOPE_OF = {
    "property": f"id = ANY ({_SEEN})",
    "organisation": "id IN (SELECT organisation_id FROM property)",
    "property_group": "organisation_id IN (SELECT organisation_id FROM property)",
    "legal_entity": "id IN (SELECT legal_entity_id FROM property)",
    "document_series": "legal_entity_id IN (SELECT legal_entity_id FROM property)",
    # A file holds a month of every property; whoever has any may know that it is archived, and where.
    "archived_partition": "nullif(current_setting('prewatt.properties', true), '') IS NOT NULL",
    # People and their duties are of no one property; the functions that ask name one.
    "duty_grant": "true",
    "person_line": "true",
    "app_user": "true",
    "step_up": "true",
    # Changes of tables that are of no one property are every auditor's business.
    "unexplained_change": f"(property_id IS NULL OR {SCOPE})",
    "second_factor": "true",
    "passkey": "true",
    "passkey_challenge": "true",
    "directory_person": "true",
    "recovery_code": "true",
    "new_factor": "true",
    "sign_in": "true",
    "notice": "true",
}
_ACCOUNTS = "(SELECT nullif(current_setting('prewatt.accounts', true), '')::bigint[])::bigint[]"
#: What a tenant sees: rows of the accounts that ``prewatt.accounts`` names, and what those lead to. A table
#: that is not here shows them nothing. Each condition of another table is held by that table's own policy.
OWN: Mapping[str, str] = {
    "property": "true",
    "account": f"id = ANY ({_ACCOUNTS})",
    "customer": "id IN (SELECT customer_id FROM account)",
    "unit": "id IN (SELECT unit_id FROM tenancy)",
    "building": "id IN (SELECT building_id FROM unit)",
    "meter": "id IN (SELECT meter_id FROM meter_assignment)",
    "message_attempt": "message_id IN (SELECT id FROM message)",
    "tariff": "id IN (SELECT tariff_id FROM tariff_assignment)",
    "tariff_version": "tariff_id IN (SELECT tariff_id FROM tariff_assignment)",
    **dict.fromkeys(
        ("account_state", "transfer", "posting", "interval", "payment", "document", "message", "tenancy",
         "supply_state", "meter_assignment", "tariff_assignment"),
        f"account_id = ANY ({_ACCOUNTS})",
    ),
}  # fmt: skip
