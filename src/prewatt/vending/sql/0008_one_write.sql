-- A set of recharges in two statements (0006_at_once.sql had eleven, and each costs 0.2 ms before its first
-- row): one takes the locks, one looks under them and writes all there is to write. It is a function of the
-- ledger's pen now (ledger/sql/0009_pen_of_paid.sql), for it alone moves what is posted; and as it looks
-- itself at everything that it writes, nothing has to be looked at twice.

-- Sells those of the wishes about which there is nothing to decide, and returns them with their places
-- (counted from zero). Of the others nothing is said and nothing is done: their key stands already,
-- somebody else holds them, their account is not there, the books are closed, a debt or a tariff takes
-- of them, or credit changes more of their supply than to let warnings fire again. Of an account that comes
-- twice one is sold. The last columns are of properties: where no tariff has a say in recharges as long as
-- this is their epoch, and above what no level of theirs has fired as long as these are their rules
-- (supply/queries.py, Rearming; core/levels.py has what is done here of it).
--
-- A key that was used at a property out of sight is found by idempotency's own key, and undoes the set.
CREATE FUNCTION append_sales(
    at timestamptz, accepted_at text, callers text[], keys text[], body_hashes bytea[],
    account_ids bigint[], amounts bigint[], ways text[], references_given text[],
    paid_ats timestamptz[], scopes text[], horizon_h bigint,
    known_places bigint[], epochs bigint[], versions bigint[], level_micros bigint[],
    level_hours bigint[], level_bits bigint[], emergency_bits bigint[]
) RETURNS TABLE (place integer, event_id bigint, receipt_number bigint, available_after bigint)
LANGUAGE plpgsql SECURITY DEFINER ROWS 16 SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    mine bigint[];
BEGIN
    -- Keys, accounts, books: what is free. Who never waits may ask for locks in any order.
    mine := ARRAY(
        SELECT w.place
        FROM unnest(callers, keys, account_ids) WITH ORDINALITY AS w(caller, key, account_id, place)
        JOIN public.account_state s ON s.account_id = w.account_id
        WHERE pg_try_advisory_xact_lock(hashtextextended(w.caller || chr(10) || w.key, 0))
          AND pg_try_advisory_xact_lock_shared(20567, s.property_id::integer)
        FOR NO KEY UPDATE OF s SKIP LOCKED);

    RETURN QUERY
    -- The properties that are as they were said to be, each looked at once.
    WITH known AS MATERIALIZED (
        SELECT p.id, p.currency, p.language, k.version, k.micro, k.hours, k.bits, k.emergency
        FROM unnest(known_places, epochs, versions, level_micros, level_hours, level_bits,
                    emergency_bits) AS k(place, epoch, version, micro, hours, bits, emergency)
        JOIN public.property p ON p.id = k.place
        LEFT JOIN public.ledger_period l ON l.property_id = k.place
        LEFT JOIN public.tariff_epoch e ON e.property_id = k.place
        WHERE k.epoch = coalesce(e.epoch, 0)
          AND (l.open_from IS NULL OR at >= l.open_from::timestamp AT TIME ZONE p.time_zone)
    -- What is known of the wishes, under these locks.
    ), sale AS MATERIALIZED (
        SELECT w.*, nextval('public.event_id_seq') AS e, s.available + w.amount AS left_over,
               k.id AS p, k.currency, a.customer_id,
               coalesce(nullif(c.language, ''), k.language) AS language,
               CASE WHEN v.account_id IS NOT NULL AND s.spend_per_day > 0
                         AND (s.available + w.amount) * 24 / s.spend_per_day BETWEEN 1 AND horizon_h
                    THEN (s.available + w.amount) * 24 / s.spend_per_day END AS hours,
               CASE WHEN NOT public.credit_changes_nothing(v, s.available, s.watch_below)
                    THEN level.top + 1 END AS watch
        FROM unnest(callers, keys, body_hashes, account_ids, amounts, ways, references_given, paid_ats,
                    scopes) WITH ORDINALITY
                 AS w(caller, key, hash, account_id, amount, way, reference, paid_at, scope, place)
        JOIN public.account_state s ON s.account_id = w.account_id
             AND (w.scope IS NULL OR s.property_id = ANY (w.scope::bigint[]))
        -- Not by an index: from the property would be by way of all its accounts.
        JOIN known k ON k.id = s.property_id + 0
        JOIN public.account a ON a.id = s.account_id AND a.closed_at IS NULL
        LEFT JOIN public.customer c ON c.id = a.customer_id
        LEFT JOIN public.supply_state v ON v.account_id = s.account_id
        CROSS JOIN LATERAL (
            SELECT k.bits | CASE WHEN v.emergency_micro > 0 THEN k.emergency ELSE 0 END AS bits,
                   greatest(k.micro, (k.hours * s.spend_per_day + 23) / 24, -v.emergency_micro,
                            CASE WHEN v.emergency_micro > 0 AND k.emergency > 0 THEN 0 END) AS top
            ) AS level
        WHERE w.place = ANY (mine)
          AND (public.credit_changes_nothing(v, s.available, s.watch_below)
               OR public.credit_only_rearms(v, s.available, s.watch_below)
                  AND (v.fired_mask | v.would_mask) & ~level.bits = 0
                  AND s.available + w.amount > level.top
                  AND k.version = coalesce((SELECT r.version FROM public.supply_policy r
                                                WHERE r.property_id = s.property_id), 0)
                  -- A warning that waits is not true any more: there is something to take back. The
                  -- order keeps the planner off the index of all that is due.
                  AND (SELECT m.id FROM public.message m
                       WHERE m.account_id = s.account_id AND m.finished_at IS NULL
                         AND m.code <> 'vending.recharged'
                       ORDER BY m.account_id, m.created_at LIMIT 1) IS NULL)
          -- Far from the end of the numbers, so that nothing here can run over.
          AND s.available BETWEEN -(1::bigint << 57) AND 1::bigint << 57
          AND s.spend_per_day < 1::bigint << 44
          AND (SELECT d.id FROM public.debt d
               WHERE d.account_id = s.account_id AND d.closed_at IS NULL
               ORDER BY d.account_id LIMIT 1) IS NULL
          AND NOT EXISTS (SELECT FROM public.idempotency i WHERE i.caller = w.caller AND i.key = w.key)
    ), state AS (
        UPDATE public.account_state s
        SET transfer_seq = s.transfer_seq + 1, posted = s.posted + w.amount,
            purchase_no = s.purchase_no + 1, updated_at = greatest(s.updated_at, at),
            watch_below = greatest(s.watch_below, w.watch)
        FROM sale w WHERE s.account_id = w.account_id
        RETURNING w.place, w.caller, w.key, w.hash, w.amount, w.way, w.reference, w.paid_at, w.e,
                  w.left_over, w.p, w.currency, w.customer_id, w.language, w.hours, w.watch,
                  s.account_id AS a, s.legal_entity_id AS entity, s.transfer_seq AS seq, s.posted
    ), wanted AS MATERIALIZED (
        SELECT w.entity, count(*) AS needed FROM state w GROUP BY w.entity
    ), taken AS (
        INSERT INTO public.document_series (legal_entity_id, series, last_number)
        SELECT q.entity, 'R', q.needed FROM wanted q ORDER BY q.entity
        ON CONFLICT (legal_entity_id, series)
        DO UPDATE SET last_number = document_series.last_number + excluded.last_number
        RETURNING legal_entity_id, last_number
    ), receipt AS MATERIALIZED (
        SELECT w.*, t.last_number - q.needed + w.nth AS n
        FROM (SELECT w.*, row_number() OVER (PARTITION BY w.entity ORDER BY w.place) AS nth
              FROM state w) AS w
        JOIN wanted q ON q.entity = w.entity JOIN taken t ON t.legal_entity_id = w.entity
    ), rearmed AS (
        UPDATE public.supply_state v
        SET fired_mask = 0, would_mask = 0, level = 0, level_fired_at = NULL
        FROM receipt w WHERE w.watch IS NOT NULL AND v.account_id = w.a
    ), paid AS (
        INSERT INTO public.payment (property_id, account_id, event_id, amount_micro, way, reference,
            paid_at, accepted_at, taken_by)
        SELECT w.p, w.a, w.e, w.amount, w.way, w.reference, w.paid_at, at, w.caller FROM receipt w
    ), booked AS (
        INSERT INTO public.transfer (account_id, seq, property_id, legal_entity_id, event_id, kind,
            component, counter_account, amount, posted_after, currency, service_from, service_to,
            booked_at, actor, reason)
        SELECT w.a, w.seq, w.p, w.entity, w.e, 2, 1, CASE w.way WHEN 'cash' THEN 1 ELSE 2 END, w.amount,
               w.posted, w.currency, at, at, at, w.caller, 'recharge.' || w.way
        FROM receipt w
    ), paper AS (
        INSERT INTO public.document (property_id, legal_entity_id, series, number, kind, account_id,
            event_id, issued_at, amount_micro)
        SELECT w.p, w.entity, 'R', w.n, 'receipt', w.a, w.e, at, w.amount FROM receipt w
    ), once AS (
        INSERT INTO public.idempotency (caller, key, body_hash, account_id, property_id, answer,
            created_at)
        SELECT w.caller, w.key, w.hash, w.a, w.p,
               jsonb_build_object('key', w.key, 'account_id', w.a, 'event_id', w.e,
                   'amount', w.amount, 'receipt_number', w.n, 'available_after', w.left_over,
                   'accepted_at', accepted_at, 'repeated', false, 'collected', 0, 'debt', 0),
               at
        FROM receipt w
    ), audited AS (
        INSERT INTO public.audit_event (property_id, happened_at, actor, code, subject, detail)
        SELECT w.p, at, w.caller, 'vending.recharge.posted', 'account:' || w.a,
               jsonb_build_object('amount', w.amount, 'event', w.e, 'receipt', w.n)
        FROM receipt w
    ), owed AS (
        INSERT INTO public.message (property_id, account_id, customer_id, code, detail, language, urgent,
            would_have, dedupe_key, created_at, due_at, claim_no, state)
        SELECT w.p, w.a, w.customer_id, 'vending.recharged',
               jsonb_build_object('amount_micro', w.amount, 'available_micro', w.left_over,
                   'days_left_h', w.hours, 'receipt', w.n, 'event', w.e),
               w.language, false, false, 'recharge:' || w.e, at, at, 0, 1
        FROM receipt w
    ), rung AS MATERIALIZED (
        SELECT count(pg_notify('changed', t.p::text)) + count(pg_notify('message', t.p::text)) AS bells
        FROM (SELECT DISTINCT w.p FROM receipt w ORDER BY w.p) AS t
    )
    SELECT (w.place - 1)::integer, w.e, w.n, w.left_over
    FROM receipt w, rung WHERE rung.bells > 0 ORDER BY w.place;
END $$;
REVOKE ALL ON FUNCTION append_sales FROM PUBLIC;

-- Whoever calls has entered their scope in the same statement (access/scope.py), so that the right to do so
-- is looked at where they have: in here.
CREATE OR REPLACE FUNCTION sell_recharges(
    at timestamptz, accepted_at text, callers text[], keys text[], body_hashes bytea[],
    account_ids bigint[], amounts bigint[], ways text[], references_given text[],
    paid_ats timestamptz[], scopes text[], horizon_h bigint,
    known_places bigint[], epochs bigint[], versions bigint[], level_micros bigint[],
    level_hours bigint[], level_bits bigint[], emergency_bits bigint[]
) RETURNS TABLE (place integer, event_id bigint, receipt_number bigint, available_after bigint)
LANGUAGE plpgsql ROWS 16 AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT * FROM append_sales(
        at, accepted_at, callers, keys, body_hashes, account_ids, amounts, ways, references_given,
        paid_ats, scopes, horizon_h, known_places, epochs, versions, level_micros, level_hours,
        level_bits, emergency_bits);
END $$;

-- Both look at what they are given with a plan of its own each time, which costs more than the look.
ALTER FUNCTION series_is_used SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION papers_are_numbered SET plan_cache_mode = force_generic_plan;

-- The pen takes the numbers from the series itself, in the statement that writes the papers; and that the
-- series counts them is asked as its transaction ends.
CREATE OR REPLACE TRIGGER papers_are_numbered AFTER INSERT ON document
    REFERENCING NEW TABLE AS made FOR EACH STATEMENT WHEN (current_user <> 'ledger_pen')
    EXECUTE FUNCTION papers_are_numbered();

-- Nobody calls it any more (ledger/sql/0012_pen_of_sales.sql).
DROP FUNCTION append_recharges;
