-- The payment comes before its transfer, as the pen asks for it (ledger/sql/0009_pen_of_paid.sql). Where the
-- transfers stand already, so do the payments.

-- Writes what stands, and returns the receipt numbers in the order given. Raises PW004 with the places
-- of keys that are taken (counted from zero), which a caller's scope may not let them see.
CREATE OR REPLACE FUNCTION book_recharges(
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
        INSERT INTO payment (property_id, account_id, event_id, amount_micro, way, reference, paid_at,
                             accepted_at, taken_by)
        SELECT w.p, w.a, w.e, w.m, w.way, w.ref, w.paid, at, w.caller
        FROM unnest(property_ids, account_ids, event_ids, amounts, ways, references_given, paid_ats,
                    callers) AS w(p, a, e, m, way, ref, paid, caller);
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
