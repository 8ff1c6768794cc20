-- A set of recharges in two statements: first everything that has to be known, under every lock, then
-- everything that is written. Between the two Python decides (vending/operations.py). Both run with the
-- rights of who calls: row-level security holds for the set as a whole, and each wish besides sees only
-- the properties of the one who asked for it.

-- What is known of each wish. Locks, in the order of every writer: the key, the account, the period.
-- A caller who does not wait skips what somebody else holds; such a wish is busy and nothing is said
-- of it. scopes are arrays of property ids as text, NULL where the login itself is the limit.
CREATE FUNCTION look_at_recharges(
    callers text[], keys text[], account_ids bigint[], scopes text[], at timestamptz, waits boolean
) RETURNS TABLE (
    busy boolean, property_id bigint, legal_entity_id bigint, closed_until date,
    body_hash bytea, answer text, available bigint, spend_per_day bigint,
    has_supply boolean, calm boolean, owes boolean, event_id bigint, tariff_epoch bigint
) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    my_keys bigint[] := '{}';
    my_accounts bigint[] := '{}';
BEGIN
    -- One transaction at a time works on a key, whatever account it names.
    IF waits THEN
        PERFORM pg_advisory_xact_lock(k) FROM (
            SELECT DISTINCT hashtextextended(w.caller || chr(10) || w.key, 0) AS k
            FROM unnest(callers, keys) AS w(caller, key) ORDER BY 1) AS ordered;
        PERFORM FROM account_state s WHERE s.account_id = ANY (account_ids)
            ORDER BY s.account_id FOR NO KEY UPDATE;
    ELSE
        my_keys := ARRAY(
            SELECT k FROM (
                SELECT DISTINCT hashtextextended(w.caller || chr(10) || w.key, 0) AS k
                FROM unnest(callers, keys) AS w(caller, key) ORDER BY 1 OFFSET 0) AS ordered
            WHERE pg_try_advisory_xact_lock(k));
        my_accounts := ARRAY(
            SELECT l.account_id FROM (
                SELECT s.account_id FROM account_state s WHERE s.account_id = ANY (account_ids)
                ORDER BY s.account_id FOR NO KEY UPDATE SKIP LOCKED) AS l);
    END IF;
    -- Shared with other entries; who closes the books holds it alone (the ledger's key).
    PERFORM pg_advisory_xact_lock_shared(20567, t.property_id::integer) FROM (
        SELECT DISTINCT s.property_id FROM account_state s WHERE s.account_id = ANY (account_ids)
        ORDER BY 1) AS t;
    RETURN QUERY
    SELECT NOT waits AND (
               hashtextextended(w.caller || chr(10) || w.key, 0) <> ALL (my_keys)
               OR s.account_id IS NOT NULL AND s.account_id <> ALL (my_accounts)),
           CASE WHEN a.id IS NOT NULL THEN s.property_id END, s.legal_entity_id,
           CASE WHEN at < l.open_from::timestamp AT TIME ZONE p.time_zone THEN l.open_from END,
           i.body_hash, i.answer::text, s.available, s.spend_per_day, v.account_id IS NOT NULL,
           -- Nothing about its supply is in question and no level has fired: credit changes nothing
           -- of it. A watch of 2^62 waits for the first look, one of -2^63 is of no supply at all.
           CASE WHEN v.account_id IS NULL THEN s.watch_below = -9223372036854775808
                ELSE v.desired = 1 AND NOT v.held AND v.fired_mask = 0 AND v.would_mask = 0
                     AND v.level = 0 AND v.level_fired_at IS NULL AND v.reconsider_at IS NULL
                     AND s.available > -v.emergency_micro AND s.watch_below < 4611686018427387904
           END,
           EXISTS (SELECT FROM debt d WHERE d.account_id = s.account_id AND d.closed_at IS NULL),
           nextval('event_id_seq'), coalesce(e.epoch, 0)
    FROM unnest(callers, keys, account_ids, scopes) WITH ORDINALITY
             AS w(caller, key, account_id, scope, place)
    LEFT JOIN account_state s ON s.account_id = w.account_id
         AND (w.scope IS NULL OR s.property_id = ANY (w.scope::bigint[]))
    LEFT JOIN account a ON a.id = s.account_id AND a.closed_at IS NULL
    LEFT JOIN property p ON p.id = s.property_id
    LEFT JOIN ledger_period l ON l.property_id = s.property_id
    LEFT JOIN tariff_epoch e ON e.property_id = s.property_id
    LEFT JOIN supply_state v ON v.account_id = s.account_id
    LEFT JOIN idempotency i ON i.caller = w.caller AND i.key = w.key
         AND (w.scope IS NULL OR i.property_id = ANY (w.scope::bigint[]))
    ORDER BY w.place;
END $$;

-- Writes what stands, and returns the receipt numbers in the order given. Raises PW004 with the places
-- of keys that are taken (counted from zero), which a caller's scope may not let them see.
CREATE FUNCTION book_recharges(
    at timestamptz, appended boolean, told boolean, callers text[], keys text[], body_hashes bytea[],
    property_ids bigint[], legal_entity_ids bigint[], account_ids bigint[], event_ids bigint[],
    amounts bigint[], ways text[], references_given text[], paid_ats timestamptz[],
    collected bigint[], debts bigint[], available_after bigint[], left_hours bigint[],
    accepted_at text
) RETURNS bigint[] LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    size CONSTANT integer := cardinality(keys);
    now_at CONSTANT timestamptz[] := array_fill(at, ARRAY[size]);
    refused text;
    numbers bigint[];
    kept text[];
BEGIN
    IF NOT appended THEN
        SELECT refusal INTO refused FROM append_transfers(
            event_ids, account_ids, array_fill(2::smallint, ARRAY[size]),
            array_fill(1::smallint, ARRAY[size]), array_fill(0::smallint, ARRAY[size]),
            ARRAY(SELECT CASE way WHEN 'cash' THEN 1 ELSE 2 END::smallint FROM unnest(ways) AS way),
            amounts, array_fill(0::bigint, ARRAY[size]), array_fill(0, ARRAY[size]), now_at, now_at,
            array_fill(NULL::bigint, ARRAY[size]), array_fill(NULL::bigint, ARRAY[size]),
            ARRAY(SELECT 'recharge.' || way FROM unnest(ways) AS way),
            array_fill(0::smallint, ARRAY[size]), array_fill(''::text, ARRAY[size]), at, callers);
        IF refused IS NOT NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'PW010', MESSAGE = refused;
        END IF;
    END IF;

    INSERT INTO payment (property_id, account_id, event_id, amount_micro, way, reference, paid_at,
                         accepted_at, taken_by)
    SELECT w.p, w.a, w.e, w.m, w.way, w.ref, w.paid, at, w.caller
    FROM unnest(property_ids, account_ids, event_ids, amounts, ways, references_given, paid_ats,
                callers) AS w(p, a, e, m, way, ref, paid, caller);

    -- Late, for the row of the series is what all desks of a firm wait for until the commit.
    WITH wanted AS (
        SELECT l AS entity, count(*) AS needed FROM unnest(legal_entity_ids) AS l GROUP BY l
    ), taken AS (
        INSERT INTO document_series (legal_entity_id, series, last_number)
        SELECT entity, 'R', needed FROM wanted ORDER BY entity
        ON CONFLICT (legal_entity_id, series)
        DO UPDATE SET last_number = document_series.last_number + excluded.last_number
        RETURNING legal_entity_id, last_number
    )
    SELECT array_agg(t.last_number - q.needed + w.nth ORDER BY w.place) INTO numbers
    FROM (SELECT entity, place, row_number() OVER (PARTITION BY entity ORDER BY place) AS nth
          FROM unnest(legal_entity_ids) WITH ORDINALITY AS u(entity, place)) AS w
    JOIN wanted q USING (entity) JOIN taken t ON t.legal_entity_id = w.entity;

    INSERT INTO document (property_id, legal_entity_id, series, number, kind, account_id, event_id,
                          issued_at, amount_micro)
    SELECT w.p, w.l, 'R', w.n, 'receipt', w.a, w.e, at, w.m
    FROM unnest(property_ids, legal_entity_ids, numbers, account_ids, event_ids, amounts)
         AS w(p, l, n, a, e, m);

    WITH kept AS (
        INSERT INTO idempotency (caller, key, body_hash, account_id, property_id, answer, created_at)
        SELECT w.caller, w.key, w.hash, w.a, w.p,
               jsonb_build_object('key', w.key, 'account_id', w.a, 'event_id', w.e, 'amount', w.m,
                   'receipt_number', w.n, 'available_after', w.left_over, 'accepted_at', accepted_at,
                   'repeated', false, 'collected', w.c, 'debt', w.d),
               at
        FROM unnest(callers, keys, body_hashes, account_ids, property_ids, event_ids, amounts, numbers,
                    available_after, collected, debts)
             AS w(caller, key, hash, a, p, e, m, n, left_over, c, d)
        ON CONFLICT (caller, key) DO NOTHING
        RETURNING caller || chr(10) || key AS name)
    SELECT array_agg(name) INTO kept FROM kept;
    IF coalesce(cardinality(kept), 0) < cardinality(keys) THEN
        RAISE EXCEPTION USING ERRCODE = 'PW004', MESSAGE = 'keys are taken', DETAIL = (
            SELECT array_to_string(array_agg(place - 1), ',')
            FROM unnest(callers, keys) WITH ORDINALITY AS w(caller, key, place)
            WHERE caller || chr(10) || key <> ALL (coalesce(kept, '{}')));
    END IF;

    INSERT INTO audit_event (property_id, happened_at, actor, code, subject, detail)
    SELECT w.p, at, w.caller, 'vending.recharge.posted', 'account:' || w.a,
           jsonb_build_object('amount', w.m, 'event', w.e, 'receipt', w.n)
    FROM unnest(property_ids, callers, account_ids, amounts, event_ids, numbers)
         AS w(p, caller, a, m, e, n);

    IF told THEN
        INSERT INTO message (property_id, account_id, customer_id, code, detail, language, urgent,
            would_have, dedupe_key, created_at, due_at, claim_no, state)
        SELECT w.p, w.a, a.customer_id, 'vending.recharged',
               jsonb_build_object('amount_micro', w.m, 'available_micro', w.left_over,
                   'days_left_h', w.hours, 'receipt', w.n, 'event', w.e),
               coalesce(nullif(c.language, ''), p.language), false, false, 'recharge:' || w.e, at, at,
               0, 1
        FROM unnest(property_ids, account_ids, amounts, available_after, left_hours, numbers, event_ids)
             WITH ORDINALITY AS w(p, a, m, left_over, hours, n, e, place)
        JOIN account a ON a.id = w.a
        JOIN property p ON p.id = w.p
        LEFT JOIN customer c ON c.id = a.customer_id
        ORDER BY w.place;
    END IF;
    PERFORM pg_notify('changed', p::text) FROM (
        SELECT DISTINCT p FROM unnest(property_ids) AS p ORDER BY 1) AS t;
    IF told THEN
        PERFORM pg_notify('message', p::text) FROM (
            SELECT DISTINCT p FROM unnest(property_ids) AS p ORDER BY 1) AS t;
    END IF;
    RETURN numbers;
END $$;
