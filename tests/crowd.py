"""A crowd of further units for a property, written set-based: the same pages at another size."""

from __future__ import annotations

from fernmoor import NOW, Fernmoor, _run

#: Ids of the crowd begin here, far from those of whatever stood before.
FIRST = 1_000_000


def add_crowd(place: Fernmoor, units: int, *, after: int = -1) -> None:
    """Let customers live in so many more units, a hundred to a building; written as the owner.

    ``after`` is the number of the last one of an earlier crowd.
    """
    for statement in _CROWD:
        _run(
            statement.format(
                n=f"FROM generate_series({after + 1}, {after + units}) AS n",
                p=place.property_id,
                entity=place.entity,
                first=FIRST,
                now=f"'{NOW.isoformat()}'::timestamptz",
            )
        )
    _run("ANALYZE")


_CROWD = (
    """INSERT INTO building (id, property_id, code, name, position)
       SELECT {first} + h, {p}, 'C' || h, 'House ' || h, 10 + h FROM (SELECT DISTINCT n / 100 AS h {n}) x
       ON CONFLICT DO NOTHING""",
    """INSERT INTO unit (id, property_id, building_id, code, floor, position, kind)
       SELECT {first} + n, {p}, {first} + n / 100, n::text, n %% 100 / 10, n %% 10, 'flat' {n}""",
    """INSERT INTO customer (id, property_id, name, email, phone, language)
       SELECT {first} + n, {p}, 'Crowd ' || n, '', '', 'en' {n}""",
    """INSERT INTO account (id, property_id, number, kind, customer_id, opened_at)
       SELECT {first} + n, {p}, 'C' || n, 'customer', {first} + n, {now} {n}""",
    """INSERT INTO tenancy (property_id, unit_id, customer_id, account_id, period)
       SELECT {p}, {first} + n, {first} + n, {first} + n, tstzrange({now} - interval '9 days', NULL) {n}""",
    """INSERT INTO account_state (account_id, property_id, legal_entity_id, posted, spend_per_day,
           last_interval_at, updated_at)
       SELECT {first} + n, {p}, {entity}, (n * 7919 %% 90) * 1000000::bigint, 2000000, {now}, {now} {n}""",
    """INSERT INTO supply_state (account_id, property_id, desired, protection, emergency_micro,
           fired_mask, would_mask, level, outcome, reason, closed_gates, held)
       SELECT {first} + n, {p}, 1, '', 5000000, (n %% 9 = 0)::int, 0, 0, 0, 0, 0, false {n}""",
    """INSERT INTO meter (id, property_id, serial, model, driver, multiplier, modulus_wh, max_power_w,
           has_relay, expected_period_s)
       SELECT {first} + n, {p}, 'C' || n, 'S1', 'mqtt_senml', 1, 1000000000, 25000, true, 900 {n}""",
    """INSERT INTO metering_point (id, property_id, unit_id, code, role, source)
       SELECT {first} + n, {p}, {first} + n, 'C' || n, 'sub', 'grid' {n}""",
    """INSERT INTO installation (property_id, meter_id, metering_point_id, period, start_value_wh)
       SELECT {p}, {first} + n, {first} + n, tstzrange({now} - interval '9 days', NULL), 0 {n}""",
    """INSERT INTO meter_assignment (property_id, meter_id, account_id, period, start_value_wh)
       SELECT {p}, {first} + n, {first} + n, tstzrange({now} - interval '9 days', NULL), 0 {n}""",
    """INSERT INTO meter_link (meter_id, property_id, last_seen_at, relay, relay_read_at)
       SELECT {first} + n, {p}, {now}, 1, {now} {n}""",
    """INSERT INTO meter_state (account_id, meter_id, register_code, property_id, multiplier,
           modulus_wh, max_power_w, expected_period_s, opened_at, opened_value_wh, last_at,
           last_value_wh, received_at)
       SELECT {first} + n, {first} + n, 1, {p}, 1, 1000000000, 25000, 900, {now} - interval '9 days',
              0, {now}, n, {now} {n}""",
)
