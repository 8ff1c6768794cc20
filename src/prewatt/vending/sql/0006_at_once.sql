-- A set of recharges in one statement, where nothing about them is in question: what is known, what is
-- decided and what is written, between one message to the server and its answer. The two functions of
-- 0003_sets.sql do it, with fewer statements inside them than before.
--
-- The plans of all three are made for few rows of large tables, whatever these were when the plan was
-- made: a plan for tables that are still empty would read them whole when they are not.

-- Nothing about its supply is in question and no level has fired: credit changes nothing of it. A watch
-- of 2^62 waits for the first look, one of -2^63 is of no supply at all.
CREATE FUNCTION credit_changes_nothing(v supply_state, available bigint, watch_below bigint)
RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN v.account_id IS NULL THEN watch_below = -9223372036854775808
                ELSE v.desired = 1 AND NOT v.held AND v.fired_mask = 0 AND v.would_mask = 0
                     AND v.level = 0 AND v.level_fired_at IS NULL AND v.reconsider_at IS NULL
                     AND available > -v.emergency_micro AND watch_below < 4611686018427387904
           END
$$;

-- A level has fired and nothing else is in question: credit enough ends that, and that is all.
CREATE FUNCTION credit_only_rearms(v supply_state, available bigint, watch_below bigint)
RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT v.desired = 1 AND NOT v.held AND v.reconsider_at IS NULL
           AND available > -v.emergency_micro AND watch_below < 4611686018427387904
$$;

CREATE OR REPLACE FUNCTION look_at_recharges(
    callers text[], keys text[], account_ids bigint[], scopes text[], at timestamptz, waits boolean
) RETURNS TABLE (
    busy boolean, property_id bigint, legal_entity_id bigint, closed_until date,
    body_hash bytea, answer text, available bigint, spend_per_day bigint,
    has_supply boolean, calm boolean, owes boolean, event_id bigint, tariff_epoch bigint
) LANGUAGE plpgsql ROWS 16 SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    my_keys bigint[];
    my_accounts bigint[];
    shut_out bigint[];
BEGIN
    -- One transaction at a time works on a key, whatever account it names. The books of a property are
    -- shared with other entries; who closes them holds them alone (the ledger's key).
    IF waits THEN
        PERFORM pg_advisory_xact_lock(k) FROM (
            SELECT DISTINCT hashtextextended(w.caller || chr(10) || w.key, 0) AS k
            FROM unnest(callers, keys) AS w(caller, key) ORDER BY 1) AS ordered;
        PERFORM FROM account_state s WHERE s.account_id = ANY (account_ids)
            ORDER BY s.account_id FOR NO KEY UPDATE;
        PERFORM pg_advisory_xact_lock_shared(20567, t.property_id::integer) FROM (
            SELECT DISTINCT s.property_id FROM account_state s WHERE s.account_id = ANY (account_ids)
            ORDER BY 1) AS t;
    ELSE
        -- Who never waits may ask for locks in any order.
        my_keys := ARRAY(
            SELECT k FROM (
                SELECT hashtextextended(w.caller || chr(10) || w.key, 0) AS k
                FROM unnest(callers, keys) AS w(caller, key) OFFSET 0) AS asked
            WHERE pg_try_advisory_xact_lock(k));
        my_accounts := ARRAY(
            SELECT l.account_id FROM (
                SELECT s.account_id, s.property_id FROM account_state s
                WHERE s.account_id = ANY (account_ids) FOR NO KEY UPDATE SKIP LOCKED) AS l
            WHERE pg_try_advisory_xact_lock_shared(20567, l.property_id::integer));
    END IF;
    RETURN QUERY
    SELECT NOT waits AND (
               hashtextextended(w.caller || chr(10) || w.key, 0) <> ALL (my_keys)
               OR s.account_id IS NOT NULL AND s.account_id <> ALL (my_accounts)),
           CASE WHEN a.id IS NOT NULL THEN s.property_id END, s.legal_entity_id,
           CASE WHEN at < l.open_from::timestamp AT TIME ZONE p.time_zone THEN l.open_from END,
           i.body_hash, i.answer::text, s.available, s.spend_per_day, v.account_id IS NOT NULL,
           credit_changes_nothing(v, s.available, s.watch_below),
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
CREATE OR REPLACE FUNCTION book_recharges(
    at timestamptz, appended boolean, told boolean, callers text[], keys text[], body_hashes bytea[],
    property_ids bigint[], legal_entity_ids bigint[], account_ids bigint[], event_ids bigint[],
    amounts bigint[], ways text[], references_given text[], paid_ats timestamptz[],
    collected bigint[], debts bigint[], available_after bigint[], left_hours bigint[],
    accepted_at text
) RETURNS bigint[] LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    size CONSTANT integer := cardinality(keys);
    refused text;
    numbers bigint[];
    kept text[];
BEGIN
    IF NOT appended THEN
        INSERT INTO payment (property_id, account_id, event_id, amount_micro, way, reference, paid_at,
                             accepted_at, taken_by)
        SELECT w.p, w.a, w.e, w.m, w.way, w.ref, w.paid, at, w.caller
        FROM unnest(property_ids, account_ids, event_ids, amounts, ways, references_given, paid_ats,
                    callers) AS w(p, a, e, m, way, ref, paid, caller);
        SELECT refusal INTO refused FROM append_transfers(
            event_ids, account_ids, array_fill(2::smallint, ARRAY[size]),
            array_fill(1::smallint, ARRAY[size]), array_fill(0::smallint, ARRAY[size]),
            ARRAY(SELECT CASE way WHEN 'cash' THEN 1 ELSE 2 END::smallint FROM unnest(ways) AS way),
            amounts, array_fill(0::bigint, ARRAY[size]), array_fill(0, ARRAY[size]),
            array_fill(at, ARRAY[size]), array_fill(at, ARRAY[size]),
            array_fill(NULL::bigint, ARRAY[size]), array_fill(NULL::bigint, ARRAY[size]),
            ARRAY(SELECT 'recharge.' || way FROM unnest(ways) AS way),
            array_fill(0::smallint, ARRAY[size]), array_fill(''::text, ARRAY[size]), at, callers);
        IF refused IS NOT NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'PW010', MESSAGE = refused;
        END IF;
    END IF;

    -- Late, for the row of the series is what all desks of a firm wait for until the commit.
    WITH wanted AS MATERIALIZED (
        SELECT l AS entity, count(*) AS needed FROM unnest(legal_entity_ids) AS l GROUP BY l
    ), taken AS (
        INSERT INTO document_series (legal_entity_id, series, last_number)
        SELECT entity, 'R', needed FROM wanted ORDER BY entity
        ON CONFLICT (legal_entity_id, series)
        DO UPDATE SET last_number = document_series.last_number + excluded.last_number
        RETURNING legal_entity_id, last_number
    ), receipt AS MATERIALIZED (
        SELECT w.*, t.last_number - q.needed + w.nth AS n
        FROM (SELECT u.*, row_number() OVER (PARTITION BY u.entity ORDER BY u.place) AS nth
              FROM unnest(legal_entity_ids, property_ids, account_ids, event_ids, amounts, callers,
                          keys, body_hashes, available_after, collected, debts, left_hours)
                   WITH ORDINALITY
                   AS u(entity, p, a, e, m, caller, key, hash, left_over, c, d, hours, place)) AS w
        JOIN wanted q ON q.entity = w.entity JOIN taken t ON t.legal_entity_id = w.entity
    ), paper AS (
        INSERT INTO document (property_id, legal_entity_id, series, number, kind, account_id,
                              event_id, issued_at, amount_micro)
        SELECT w.p, w.entity, 'R', w.n, 'receipt', w.a, w.e, at, w.m FROM receipt w
    ), once AS (
        INSERT INTO idempotency (caller, key, body_hash, account_id, property_id, answer, created_at)
        SELECT w.caller, w.key, w.hash, w.a, w.p,
               jsonb_build_object('key', w.key, 'account_id', w.a, 'event_id', w.e, 'amount', w.m,
                   'receipt_number', w.n, 'available_after', w.left_over, 'accepted_at', accepted_at,
                   'repeated', false, 'collected', w.c, 'debt', w.d),
               at
        FROM receipt w
        ON CONFLICT (caller, key) DO NOTHING
        RETURNING caller || chr(10) || key AS name
    ), audited AS (
        INSERT INTO audit_event (property_id, happened_at, actor, code, subject, detail)
        SELECT w.p, at, w.caller, 'vending.recharge.posted', 'account:' || w.a,
               jsonb_build_object('amount', w.m, 'event', w.e, 'receipt', w.n)
        FROM receipt w
    ), owed AS (
        INSERT INTO message (property_id, account_id, customer_id, code, detail, language, urgent,
            would_have, dedupe_key, created_at, due_at, claim_no, state)
        SELECT w.p, w.a, a.customer_id, 'vending.recharged',
               jsonb_build_object('amount_micro', w.m, 'available_micro', w.left_over,
                   'days_left_h', w.hours, 'receipt', w.n, 'event', w.e),
               coalesce(nullif(c.language, ''), p.language), false, false, 'recharge:' || w.e, at, at,
               0, 1
        FROM receipt w
        JOIN account a ON a.id = w.a
        JOIN property p ON p.id = w.p
        LEFT JOIN customer c ON c.id = a.customer_id
        WHERE told
        ORDER BY w.place
    )
    SELECT array_agg(w.n ORDER BY w.place), (SELECT array_agg(name) FROM once) INTO numbers, kept
    FROM receipt w;
    IF coalesce(cardinality(kept), 0) < size THEN
        RAISE EXCEPTION USING ERRCODE = 'PW004', MESSAGE = 'keys are taken', DETAIL = (
            SELECT array_to_string(array_agg(place - 1), ',')
            FROM unnest(callers, keys) WITH ORDINALITY AS w(caller, key, place)
            WHERE caller || chr(10) || key <> ALL (coalesce(kept, '{}')));
    END IF;
    PERFORM pg_notify(bell, p::text)
    FROM (SELECT DISTINCT p FROM unnest(property_ids) AS p ORDER BY 1) AS t,
         unnest(CASE WHEN told THEN ARRAY['changed', 'message'] ELSE ARRAY['changed'] END) AS bell;
    RETURN numbers;
END $$;

-- Sells those of the wishes about which there is nothing to decide, and returns them with their places
-- (counted from zero). Of the others nothing is said and nothing is done: their key stands already,
-- somebody else holds them, their account is not there, the books are closed, a debt or a tariff takes
-- of them, or credit changes more of their supply than to let warnings fire again. No account and no key
-- may come twice. The last columns are of properties: where no tariff has a say in recharges as long as
-- this is their epoch, and above what no level of theirs has fired as long as these are their rules
-- (supply/queries.py, Rearming; core/levels.py has what is done here of it).
CREATE FUNCTION sell_recharges(
    at timestamptz, accepted_at text, callers text[], keys text[], body_hashes bytea[],
    account_ids bigint[], amounts bigint[], ways text[], references_given text[],
    paid_ats timestamptz[], scopes text[], horizon_h bigint,
    known_places bigint[], epochs bigint[], versions bigint[], level_micros bigint[],
    level_hours bigint[], level_bits bigint[], emergency_bits bigint[]
) RETURNS TABLE (place integer, event_id bigint, receipt_number bigint, available_after bigint)
LANGUAGE plpgsql ROWS 16 SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    mine bigint[];
    places bigint[];
    events bigint[];
    numbers bigint[];
    balances bigint[];
    property_ids bigint[];
    legal_entity_ids bigint[];
    hours bigint[];
    watches bigint[];
    nothing bigint[];
BEGIN
    -- Keys, accounts, books: what is free. Who never waits may ask for locks in any order.
    mine := ARRAY(
        SELECT w.place
        FROM unnest(callers, keys, account_ids) WITH ORDINALITY AS w(caller, key, account_id, place)
        JOIN account_state s ON s.account_id = w.account_id
        WHERE pg_try_advisory_xact_lock(hashtextextended(w.caller || chr(10) || w.key, 0))
          AND pg_try_advisory_xact_lock_shared(20567, s.property_id::integer)
        FOR NO KEY UPDATE OF s SKIP LOCKED);

    -- What is known of them, under these locks.
    SELECT array_agg(t.place), array_agg(t.event_id), array_agg(t.left_over),
           array_agg(t.property_id), array_agg(t.legal_entity_id),
           array_agg(CASE WHEN t.spend_per_day > 0
                               AND t.left_over * 24 / t.spend_per_day BETWEEN 1 AND horizon_h
                          THEN t.left_over * 24 / t.spend_per_day END),
           array_agg(CASE WHEN NOT t.calm THEN t.top + 1 END)
    INTO places, events, balances, property_ids, legal_entity_ids, hours, watches
    FROM (
        SELECT w.place, nextval('event_id_seq') AS event_id, s.available + w.amount AS left_over,
               s.property_id, s.legal_entity_id,
               CASE WHEN v.account_id IS NOT NULL THEN s.spend_per_day ELSE 0 END AS spend_per_day,
               known.top, credit_changes_nothing(v, s.available, s.watch_below) AS calm
        FROM unnest(callers, keys, account_ids, scopes, amounts) WITH ORDINALITY
                 AS w(caller, key, account_id, scope, amount, place)
        JOIN account_state s ON s.account_id = w.account_id
             AND (w.scope IS NULL OR s.property_id = ANY (w.scope::bigint[]))
        JOIN account a ON a.id = s.account_id AND a.closed_at IS NULL
        LEFT JOIN ledger_period l ON l.property_id = s.property_id
        LEFT JOIN tariff_epoch e ON e.property_id = s.property_id
        LEFT JOIN supply_state v ON v.account_id = s.account_id
        CROSS JOIN LATERAL (
            SELECT k.version, k.bits | CASE WHEN v.emergency_micro > 0 THEN k.emergency ELSE 0 END AS bits,
                   greatest(k.micro, (k.hours * s.spend_per_day + 23) / 24, -v.emergency_micro,
                            CASE WHEN v.emergency_micro > 0 AND k.emergency > 0 THEN 0 END) AS top
            FROM unnest(known_places, epochs, versions, level_micros, level_hours, level_bits,
                        emergency_bits) AS k(place, epoch, version, micro, hours, bits, emergency)
            WHERE k.place = s.property_id AND k.epoch = coalesce(e.epoch, 0)) AS known
        WHERE w.place = ANY (mine)
          AND (l.open_from IS NULL OR at >= l.open_from::timestamp AT TIME ZONE (
              SELECT p.time_zone FROM property p WHERE p.id = l.property_id))
          AND (credit_changes_nothing(v, s.available, s.watch_below)
               OR credit_only_rearms(v, s.available, s.watch_below)
                  AND (v.fired_mask | v.would_mask) & ~known.bits = 0
                  AND s.available + w.amount > known.top
                  AND known.version = coalesce((SELECT r.version FROM supply_policy r
                                                WHERE r.property_id = s.property_id), 0)
                  -- A warning that waits is not true any more: there is something to take back. The
                  -- order keeps the planner off the index of all that is due.
                  AND (SELECT m.id FROM message m
                       WHERE m.account_id = s.account_id AND m.finished_at IS NULL
                         AND m.code <> 'vending.recharged'
                       ORDER BY m.account_id, m.created_at LIMIT 1) IS NULL)
          -- Far from the end of the numbers, so that nothing here can run over.
          AND s.available BETWEEN -(1::bigint << 57) AND 1::bigint << 57
          AND s.spend_per_day < 1::bigint << 44
          AND NOT EXISTS (SELECT FROM debt d
                          WHERE d.account_id = s.account_id AND d.closed_at IS NULL)
          AND NOT EXISTS (SELECT FROM idempotency i WHERE i.caller = w.caller AND i.key = w.key)
        ORDER BY w.place) AS t;
    IF places IS NULL THEN
        RETURN;
    END IF;
    nothing := array_fill(0::bigint, ARRAY[cardinality(places)]);
    IF cardinality(places) < cardinality(keys) THEN
        SELECT array_agg(w.caller), array_agg(w.key), array_agg(w.hash), array_agg(w.account_id),
               array_agg(w.amount), array_agg(w.way), array_agg(w.reference), array_agg(w.paid_at)
        INTO callers, keys, body_hashes, account_ids, amounts, ways, references_given, paid_ats
        FROM unnest(callers, keys, body_hashes, account_ids, amounts, ways, references_given, paid_ats)
             WITH ORDINALITY
             AS w(caller, key, hash, account_id, amount, way, reference, paid_at, place)
        WHERE w.place = ANY (places);
    END IF;
    PERFORM append_recharges(
        events, account_ids, amounts, ways, references_given, paid_ats, callers, watches, at);
    IF array_remove(watches, NULL) <> '{}' THEN
        UPDATE supply_state v
        SET fired_mask = 0, would_mask = 0, level = 0, level_fired_at = NULL
        FROM unnest(account_ids, watches) AS w(account_id, watch)
        WHERE w.watch IS NOT NULL AND v.account_id = w.account_id;
    END IF;
    numbers := book_recharges(at, true, true, callers, keys, body_hashes, property_ids,
        legal_entity_ids, account_ids, events, amounts, ways, references_given, paid_ats, nothing,
        nothing, balances, hours, accepted_at);
    RETURN QUERY SELECT (t.place - 1)::integer, t.event_id, t.number, t.left_over
        FROM unnest(places, events, numbers, balances) AS t(place, event_id, number, left_over);
END $$;
