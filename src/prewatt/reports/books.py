"""The books recomputed in SQL from their own rows: what must hold at any moment, whatever happened.

Nothing here calls the code that wrote the rows; what a posting commits to is named in one place. ``check_books`` returns every breach in words, so that
a test can show it and a drill can print it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from prewatt.billing.images import COMMITTED, INTERVAL_IMAGE


class Cursor(Protocol):
    """What is needed of a database cursor: Django's and psycopg's both have it."""

    def execute(self, query: Any, params: Any = None, /) -> Any:
        """Run one statement."""

    def fetchall(self) -> Any:
        """Return the rows of the last statement."""


#: Invariant 2. Balances are the sums of their rows.
_SUMS = """
SELECT 'account ' || s.account_id || ': ' || what FROM account_state s
LEFT JOIN LATERAL (
    SELECT coalesce(sum(amount), 0) AS total, count(*) AS rows, coalesce(max(seq), 0) AS last,
           count(*) FILTER (WHERE kind = 2) AS recharges
    FROM transfer t WHERE t.account_id = s.account_id) t ON true
LEFT JOIN LATERAL (
    SELECT coalesce(sum(charge_energy), 0) AS energy, coalesce(sum(charge_standing), 0) AS standing,
           coalesce(sum(charge_tax), 0) AS tax, coalesce(sum(charge_fee), 0) AS fee,
           coalesce(sum(charge_demand), 0) AS demand, coalesce(sum(charge_subsidy), 0) AS subsidy
    FROM interval i WHERE i.account_id = s.account_id AND i.interval_no > s.posted_interval_no
) a ON true
LEFT JOIN LATERAL (
    SELECT count(*) + coalesce((SELECT sum(x.rows) FROM archived_account x
                                WHERE x.account_id = s.account_id), 0) AS rows,
           greatest(coalesce(max(interval_no), 0), (SELECT max(x.last_interval_no)
               FROM archived_account x WHERE x.account_id = s.account_id)) AS last FROM interval i
    WHERE i.account_id = s.account_id) n ON true
CROSS JOIN LATERAL (VALUES
    (t.total <> s.posted, 'posted is not the sum of its transfers'),
    (t.rows <> s.transfer_seq OR t.last <> s.transfer_seq, 'transfer.seq has a gap'),
    (n.rows <> s.interval_no OR n.last <> s.interval_no, 'interval_no has a gap'),
    (a.energy <> s.accrued_energy OR a.standing <> s.accrued_standing OR a.tax <> s.accrued_tax
     OR a.fee <> s.accrued_fee OR a.demand <> s.accrued_demand OR a.subsidy <> s.accrued_subsidy,
     'accrued is not the sum of the intervals not yet posted'),
    (s.available <> s.posted - s.accrued_energy - s.accrued_standing - s.accrued_tax
     - s.accrued_fee - s.accrued_demand - s.accrued_subsidy, 'available is not posted less accrued'),
    (t.recharges <> s.purchase_no, 'purchase_no does not count its recharges')
) AS breach(holds, what)
WHERE breach.holds AND s.property_id = ANY(%s)
"""

#: Invariants 1 and 2. Rows chain, and corrections name a row of the same account that exists.
_CHAIN = """
SELECT 'account ' || account_id || ' transfer ' || seq || ': posted_after does not chain' FROM (
    SELECT *, sum(amount) OVER (PARTITION BY account_id ORDER BY seq) AS running FROM transfer
    WHERE property_id = ANY(%s)) t
WHERE running <> posted_after
"""
_CORRECTIONS = """
SELECT 'account ' || t.account_id || ' transfer ' || t.seq || ': corrects what is not there'
FROM transfer t
LEFT JOIN transfer c ON c.account_id = t.account_id AND c.seq = t.corrects_seq
WHERE t.property_id = ANY(%s) AND t.corrects_seq IS NOT NULL
  AND (c.seq IS NULL OR c.event_id <> t.corrects_event_id)
"""

#: Invariant 2. A posting closes a range that touches the one before, for exactly its intervals. Where
#: some of them are archived, ``_ARCHIVED_POSTINGS`` looks at them.
_POSTINGS = """
SELECT 'account ' || p.account_id || ' posting ' || p.posting_no || ': ' || what
FROM (SELECT *, lag(interval_no_to, 1, 0::bigint) OVER w AS expected_from,
             row_number() OVER w AS expected_no
      FROM posting WHERE property_id = ANY(%s)
      WINDOW w AS (PARTITION BY account_id ORDER BY posting_no)) p
LEFT JOIN LATERAL (
    SELECT coalesce(sum(i.charge_energy), 0) AS charge, coalesce(sum(i.charge_fee), 0) AS fee,
           coalesce(sum(i.charge_tax), 0) AS tax, coalesce(sum(i.charge_subsidy), 0) AS subsidy,
           coalesce(sum(i.energy_wh), 0) AS energy,
           count(*) < p.interval_no_to - p.interval_no_from AND EXISTS (
               SELECT FROM archived_account x WHERE x.account_id = p.account_id
                 AND x.first_interval_no <= p.interval_no_to
                 AND x.last_interval_no > p.interval_no_from) AS archived
    FROM interval i WHERE i.account_id = p.account_id
      AND i.interval_no > p.interval_no_from AND i.interval_no <= p.interval_no_to) i ON true
LEFT JOIN LATERAL (
    SELECT coalesce(-sum(t.amount), 0) AS amount,
           coalesce(-sum(t.amount) FILTER (WHERE t.component = 1), 0) AS charge,
           coalesce(-sum(t.amount) FILTER (WHERE t.component = 3), 0) AS tax,
           coalesce(-sum(t.amount) FILTER (WHERE t.component = 4), 0) AS fee,
           coalesce(-sum(t.amount) FILTER (WHERE t.component = 6), 0) AS subsidy,
           bool_or(t.component IN (3, 4, 6) AND t.code = '') AS anonymous
    FROM transfer t
    WHERE t.account_id = p.account_id AND t.event_id = p.event_id
      AND t.reason NOT LIKE 'daily.%%') t ON true
CROSS JOIN LATERAL (VALUES
    (p.expected_from <> p.interval_no_from, 'its range does not touch the one before'),
    (p.expected_no <> p.posting_no, 'its number leaves a gap'),
    (NOT i.archived AND i.charge + i.fee + i.tax + i.subsidy <> p.amount, 'its amount is not that of its intervals'),
    (NOT i.archived AND i.energy <> p.energy_wh, 'its energy is not that of its intervals'),
    (t.amount <> p.amount, 'its transfers are not its amount'),
    (NOT i.archived AND (t.charge, t.fee, t.tax, t.subsidy) <> (i.charge, i.fee, i.tax, i.subsidy),
     'a component of its transfers is not that of its intervals'),
    (t.anonymous, 'a fee, tax or subsidy names no code')
) AS breach(holds, what)
WHERE breach.holds
"""

#: Invariant 2. The postings of an account that archived intervals lack come together to what is left
#: of their intervals and what the archive took; each by itself is proved by ``prewatt archive verify``.
_ARCHIVED_POSTINGS = """
SELECT 'account ' || account_id || ': its postings are not what is archived of them and what is left'
FROM (
    SELECT p.account_id, sum(p.interval_no_to - p.interval_no_from) AS rows, sum(p.energy_wh) AS energy,
           sum(p.amount) AS amount, sum(i.rows) AS live_rows, sum(i.energy) AS live_energy,
           sum(i.charge) AS live_charge, sum(i.tax) AS live_tax, sum(i.fee) AS live_fee,
           sum(i.subsidy) AS live_subsidy, sum(t.charge) AS charge, sum(t.tax) AS tax,
           sum(t.fee) AS fee, sum(t.subsidy) AS subsidy
    FROM posting p
    CROSS JOIN LATERAL (
        SELECT count(*) AS rows, coalesce(sum(i.energy_wh), 0) AS energy,
               coalesce(sum(i.charge_energy), 0) AS charge, coalesce(sum(i.charge_tax), 0) AS tax,
               coalesce(sum(i.charge_fee), 0) AS fee, coalesce(sum(i.charge_subsidy), 0) AS subsidy
        FROM interval i WHERE i.account_id = p.account_id
          AND i.interval_no > p.interval_no_from AND i.interval_no <= p.interval_no_to) i
    CROSS JOIN LATERAL (
        SELECT coalesce(-sum(t.amount) FILTER (WHERE t.component = 1), 0) AS charge,
               coalesce(-sum(t.amount) FILTER (WHERE t.component = 3), 0) AS tax,
               coalesce(-sum(t.amount) FILTER (WHERE t.component = 4), 0) AS fee,
               coalesce(-sum(t.amount) FILTER (WHERE t.component = 6), 0) AS subsidy
        FROM transfer t WHERE t.account_id = p.account_id AND t.event_id = p.event_id
          AND t.reason NOT LIKE 'daily.%%') t
    WHERE p.property_id = ANY(%s) AND i.rows < p.interval_no_to - p.interval_no_from
      AND EXISTS (SELECT FROM archived_account x WHERE x.account_id = p.account_id)
    GROUP BY p.account_id
) p
FULL JOIN (
    SELECT account_id, sum(rows) AS rows, sum(energy_wh) AS energy, sum(charge_energy) AS charge,
           sum(charge_tax) AS tax, sum(charge_fee) AS fee, sum(charge_subsidy) AS subsidy
    FROM archived_account WHERE property_id = ANY(%s) GROUP BY account_id
) a USING (account_id)
WHERE (p.rows - p.live_rows, p.energy - p.live_energy, p.charge - p.live_charge, p.tax - p.live_tax,
       p.fee - p.live_fee, p.subsidy - p.live_subsidy)
      IS DISTINCT FROM (a.rows, a.energy, a.charge, a.tax, a.fee, a.subsidy)
   OR p.amount <> p.charge + p.tax + p.fee + p.subsidy
"""

#: Files of a month sum up to what left of its accounts.
_ARCHIVES = """
SELECT 'month ' || to_char(a.month, 'YYYY-MM') || ': what left of its accounts is not what left of it'
FROM archived_partition a
LEFT JOIN LATERAL (
    SELECT coalesce(sum(rows), 0) AS rows, coalesce(sum(energy_wh), 0) AS energy,
           coalesce(sum(charge_energy), 0) AS charge
    FROM archived_account x WHERE x.month = a.month) x ON true
WHERE a.base = 'interval' AND (x.rows, x.energy, x.charge) <> (a.rows,
    (a.sums ->> 'energy_wh')::numeric, (a.sums ->> 'charge_energy')::numeric)
"""

#: Invariant 5. What was charged for a register is the way from its opening to its watermark.
_ENERGY = """
SELECT 'account ' || m.account_id || ' meter ' || m.meter_id || ': charged ' || e.charged
    || ' Wh for ' || e.counted || ' Wh counted'
FROM meter_state m
CROSS JOIN LATERAL (
    SELECT coalesce(sum(i.energy_wh), 0) + coalesce((
               SELECT sum(x.energy_wh) FROM archived_account x WHERE x.account_id = m.account_id
                 AND x.meter_id = m.meter_id AND x.register_code = m.register_code
                 AND x.first_start_at >= m.opened_at), 0) AS charged,
           ((m.last_value_wh - m.opened_value_wh + m.modulus_wh) %% m.modulus_wh) * m.multiplier
               AS counted
    FROM interval i WHERE i.account_id = m.account_id AND i.meter_id = m.meter_id
      AND i.register_code = m.register_code AND i.start_at >= m.opened_at) e
WHERE m.property_id = ANY(%s) AND m.register_code = 1 AND (e.charged - e.counted) %% m.modulus_wh <> 0
"""

#: Invariant 5. The live segments of a meter tile time: no overlap, no hole, and no Wh between them. What
#: came of an archived month after that has lost its neighbours.
_TILES = """
WITH live AS (
    SELECT i.*, lag(to_at) OVER w AS before_at
    FROM interval i
    WHERE i.property_id = ANY(%s) AND i.segment < 10000
      AND i.start_at >= (SELECT coalesce(max(month) + interval '1 month', '-infinity')
                         AT TIME ZONE 'UTC' FROM archived_partition)
      AND i.revision = (
        SELECT max(c.revision) FROM interval c WHERE c.account_id = i.account_id
          AND c.meter_id = i.meter_id AND c.register_code = i.register_code
          AND c.start_at = i.start_at AND c.segment < 10000)
      -- An interval whose opening reading was withdrawn is taken back, and part of the one before.
      AND NOT EXISTS (
        SELECT FROM interval r WHERE r.account_id = i.account_id AND r.meter_id = i.meter_id
          AND r.register_code = i.register_code AND r.start_at = i.start_at
          AND r.revision = i.revision + 1 AND r.segment = i.segment + 10000)
    WINDOW w AS (PARTITION BY meter_id, register_code ORDER BY from_at)
)
SELECT 'meter ' || meter_id || ': segments do not tile at ' || from_at FROM live
WHERE before_at IS NOT NULL AND before_at <> from_at
"""

#: Invariant 5. A superseded segment is taken back once, with its own energy, and never left standing.
_REVERSALS = """
SELECT 'meter ' || i.meter_id || ': revision ' || i.revision || ' of ' || i.start_at
    || ' was superseded and not taken back'
FROM interval i
LEFT JOIN interval r ON r.account_id = i.account_id AND r.meter_id = i.meter_id
    AND r.register_code = i.register_code AND r.start_at = i.start_at
    AND r.revision = i.revision + 1 AND r.segment = i.segment + 10000
WHERE i.property_id = ANY(%s) AND i.segment < 10000 AND i.revision < (
    SELECT max(c.revision) FROM interval c WHERE c.account_id = i.account_id
      AND c.meter_id = i.meter_id AND c.register_code = i.register_code
      AND c.start_at = i.start_at AND c.segment < 10000)
  AND (r.energy_wh IS NULL OR r.energy_wh <> -i.energy_wh
       OR abs(r.charge_energy + i.charge_energy) > 1
       OR abs(r.charge_fee + i.charge_fee) > 1 OR abs(r.charge_tax + i.charge_tax) > 1
       OR abs(r.charge_subsidy + i.charge_subsidy) > 1
       -- What is exact is taken back exactly.
       OR (r.charge_energy::numeric * 1000000 + r.rest_energy, r.charge_fee::numeric * 1000000000
           + r.rest_fee, r.charge_tax::numeric * 1000000000 + r.rest_tax,
           r.charge_subsidy::numeric * 1000000000 + r.rest_subsidy)
          <> (-i.charge_energy::numeric * 1000000 - i.rest_energy, -i.charge_fee::numeric * 1000000000
           - i.rest_fee, -i.charge_tax::numeric * 1000000000 - i.rest_tax,
           -i.charge_subsidy::numeric * 1000000000 - i.rest_subsidy))
"""

#: A carry is what all charges together leave of the exact amounts, and less than a micro-unit.
_CARRIES = """
SELECT 'account ' || s.account_id || ': carry of ' || c.what || ' is not what its charges left'
FROM account_state s
CROSS JOIN LATERAL (
    SELECT coalesce(sum(rest_energy), 0) AS energy, coalesce(sum(rest_fee), 0) AS fee,
           coalesce(sum(rest_tax), 0) AS tax, coalesce(sum(rest_subsidy), 0) AS subsidy
    FROM (SELECT rest_energy::bigint, rest_fee::bigint, rest_tax::bigint, rest_subsidy::bigint
          FROM interval i WHERE i.account_id = s.account_id
          UNION ALL
          SELECT rest_energy, rest_fee, rest_tax, rest_subsidy FROM archived_account x
          WHERE x.account_id = s.account_id) i) r
CROSS JOIN LATERAL (VALUES
    ('energy', s.carry_energy, r.energy, 1000000), ('fee', s.carry_fee, r.fee, 1000000000),
    ('tax', s.carry_tax, r.tax, 1000000000), ('subsidy', s.carry_subsidy, r.subsidy, 1000000000)
) AS c(what, carry, left_over, unit)
WHERE s.property_id = ANY(%s) AND (c.carry <> c.left_over OR c.carry < 0 OR c.carry >= c.unit)
"""

#: What an account has counted towards its steps and free energy is what it used in the window, or
#: what came with its unit and what it used since. Looked at where every interval of the window is
#: of a tariff that counts; a window is named by its first instant, or by the number of a purchase. A
#: window that began in an archived month is not looked at.
_COUNTS = """
SELECT 'account ' || s.account_id || ': ' || w.what || ' is not what was used in its window'
FROM account_state s
CROSS JOIN LATERAL (VALUES
    ('step_wh', s.step_window, (SELECT coalesce(sum(c), 0) FROM unnest(s.step_wh) AS c),
     '{energy,steps}'::text[]),
    ('allowance_wh', s.allowance_window, s.allowance_wh::numeric, '{allowances}')
) AS w(what, key, counted, part)
LEFT JOIN LATERAL (
    SELECT at, step_wh FROM carried_steps c
    WHERE w.what = 'step_wh' AND c.account_id = s.account_id AND c.step_window = w.key
    ORDER BY at DESC LIMIT 1
) c ON true
LEFT JOIN LATERAL (
    SELECT service_from FROM transfer t WHERE t.account_id = s.account_id AND t.kind = 2
    ORDER BY seq OFFSET greatest(w.key - 1, 0) LIMIT 1
) p ON w.key BETWEEN 1 AND 999999999999
CROSS JOIN LATERAL (
    SELECT coalesce(sum(i.energy_wh), 0) + coalesce((SELECT sum(u) FROM unnest(c.step_wh) AS u), 0)
               AS used,
           coalesce(bool_and(v.content #> w.part IS NOT NULL), false) AS counts
    FROM interval i JOIN tariff_version v ON v.id = i.tariff_version_id
    WHERE i.account_id = s.account_id AND i.register_code = 1
      AND CASE WHEN w.key > 999999999999 THEN i.from_at >= greatest(c.at,
                   timestamptz 'epoch' + w.key / 1000000 * interval '1 second'
                   + w.key %% 1000000 * interval '1 microsecond')
               ELSE i.start_at >= coalesce(p.service_from, '-infinity') END
) u
WHERE s.property_id = ANY(%s) AND (w.key <> 0 OR w.counted <> 0) AND u.counts AND u.used <> w.counted
  AND NOT EXISTS (SELECT FROM archived_account x WHERE x.account_id = s.account_id
      AND (x.month + interval '1 month') AT TIME ZONE 'UTC' > CASE WHEN w.key > 999999999999
          THEN timestamptz 'epoch' + w.key / 1000000 * interval '1 second'
          ELSE coalesce(p.service_from, '-infinity') END)
"""

#: Invariant 4. A key, a payment, a receipt and an event are one to one.
_PAYMENTS = """
SELECT 'payment ' || p.id || ': ' || what FROM payment p
LEFT JOIN LATERAL (
    SELECT coalesce(sum(t.amount), 0) AS amount FROM transfer t
    WHERE t.account_id = p.account_id AND t.event_id = p.event_id AND t.kind = 2) t ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS receipts FROM document d
    WHERE d.event_id = p.event_id AND d.kind = 'receipt' AND d.amount_micro = p.amount_micro) d ON true
CROSS JOIN LATERAL (VALUES
    (t.amount <> p.amount_micro, 'its transfers are not its amount'),
    (d.receipts <> 1, 'it has not exactly one receipt')
) AS breach(holds, what)
WHERE breach.holds AND p.property_id = ANY(%s)
"""

#: Invariant 10. Documents of a legal entity and series are numbered 1 to n.
_DOCUMENTS = """
SELECT 'series ' || series || ' of legal entity ' || legal_entity_id || ' has a gap' FROM (
    SELECT legal_entity_id, series, count(*) AS rows, max(number) AS last FROM document
    WHERE legal_entity_id IN (SELECT legal_entity_id FROM property WHERE id = ANY(%s))
    GROUP BY 1, 2) d
WHERE rows <> last OR last <> (
    SELECT last_number FROM document_series s
    WHERE s.legal_entity_id = d.legal_entity_id AND s.series = d.series)
"""

#: Invariant 2. A posting's hash is that of its intervals, whatever column of them was changed. Where some of
#: them are archived, ``prewatt archive verify`` looks. Version 2 is a line of text for each interval, with
#: instants in µs since the Unix epoch; version 3 what ``record_send`` makes of it.
_TEXT = ", ".join(
    f"(extract(epoch FROM i.{name}) * 1000000)::bigint" if kind == "timestamptz" else f"i.{name}"
    for name, kind in COMMITTED.items()
)
_HASHES = f"""
SELECT 'account ' || p.account_id || ' posting ' || p.posting_no || ': its intervals do not make its hash'
FROM posting p
CROSS JOIN LATERAL (
    SELECT count(*) AS rows, CASE p.hash_version
        WHEN 2 THEN sha256(convert_to(string_agg(concat_ws('|', 'v2', {_TEXT}), chr(10)
                                                 ORDER BY i.interval_no), 'UTF8'))
        WHEN 3 THEN sha256(string_agg({INTERVAL_IMAGE}, ''::bytea ORDER BY i.interval_no)) END AS hash
    FROM interval i WHERE i.account_id = p.account_id
      AND i.interval_no > p.interval_no_from AND i.interval_no <= p.interval_no_to) i
WHERE p.property_id = ANY(%s) AND (%s = 100 OR random() * 100 < %s)
  AND i.hash IS DISTINCT FROM p.interval_hash
  AND NOT (i.rows < p.interval_no_to - p.interval_no_from AND EXISTS (
      SELECT FROM archived_account x WHERE x.account_id = p.account_id
        AND x.first_interval_no <= p.interval_no_to AND x.last_interval_no > p.interval_no_from))
"""  # noqa: S608 - our own names

CHECKS = (
    _SUMS, _CHAIN, _CORRECTIONS, _POSTINGS, _ARCHIVED_POSTINGS, _ENERGY, _TILES, _REVERSALS, _CARRIES, _COUNTS, _PAYMENTS,
    _DOCUMENTS,
)  # fmt: skip


def check_books(
    cursor: Cursor, property_ids: Sequence[int] | None = None, *, hashed_percent: int = 100
) -> list[str]:
    """Every breach of the books of these properties (all by default), in words; empty when they hold.

    Of so many per cent of the postings, drawn anew each time, the hash is made again from their intervals.
    The cursor must see all rows: an owner's or, for reading, the witness's.
    """
    if property_ids is None:
        cursor.execute("SELECT id FROM property")
        property_ids = [row[0] for row in cursor.fetchall()]
    breaches: list[str] = []
    for check in CHECKS:
        cursor.execute(check, [list(property_ids)] * check.count("%s"))
        breaches += [str(row[0]) for row in cursor.fetchall()]
    cursor.execute(_HASHES, [list(property_ids), hashed_percent, hashed_percent])
    breaches += [str(row[0]) for row in cursor.fetchall()]
    cursor.execute(_ARCHIVES)
    return breaches + [str(row[0]) for row in cursor.fetchall()]


def rests_on_archive(cursor: Cursor) -> list[str]:
    """Which checks rest on sums of archived rows instead of the rows, in words; empty without any."""
    cursor.execute(
        """SELECT to_char(max(a.month), 'YYYY-MM'), sum(a.rows)::bigint,
                  (SELECT count(*) FROM posting p WHERE EXISTS (
                      SELECT FROM archived_account x WHERE x.account_id = p.account_id
                        AND x.first_interval_no <= p.interval_no_to
                        AND x.last_interval_no > p.interval_no_from))
           FROM archived_partition a WHERE a.base = 'interval'"""
    )
    ((month, intervals, postings),) = cursor.fetchall()
    if month is None:
        return []
    return [
        (
            f"{intervals} intervals up to {month} are archived: interval_no, energy and carries count in"
            " what the catalogue says of them."
        ),
        (
            f"Up to {postings} postings lack archived intervals: their accounts are added up as a whole,"
            " and `prewatt archive verify` proves each by its hash."
        ),
        (
            "Tiling and reversals are looked at in the months that are here; steps and free energy in"
            " windows that began in them."
        ),
    ]
