-- A second nib of the pen (0009_pen_of_paid.sql), for recharges of which nothing is taken: it writes the
-- payment and the transfer from the same figures, so nothing has to be looked up to know that the one is
-- for the other; and for no other, as payment.event_id is unique.

-- Each account at most once. A watch is where credit changes the level below which supply is to be told
-- of an account; like raise_watch this only raises it (supply/sql/0003_guards.sql). Raises where an account is not in the caller's scope; a closed period is
-- the policy's to refuse (walls.py). Returns how many were written.
CREATE FUNCTION append_recharges(
    event_ids bigint[], account_ids bigint[], amounts bigint[], ways text[], references_given text[],
    paid_ats timestamptz[], by_actors text[], watches bigint[], booked timestamptz
) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    size CONSTANT integer := cardinality(account_ids);
    written integer;
BEGIN
    IF NOT size = ALL (ARRAY[cardinality(event_ids), cardinality(amounts), cardinality(ways),
        cardinality(references_given), cardinality(paid_ats), cardinality(by_actors),
        cardinality(watches)]) THEN
        RAISE check_violation USING MESSAGE = 'the columns of the recharges differ in length';
    END IF;
    -- The first lock of every writer, in account_id order; then the books, shared with other entries.
    PERFORM pg_advisory_xact_lock_shared(20567, l.property_id::integer) FROM (
        SELECT s.property_id FROM public.account_state s WHERE s.account_id = ANY (account_ids)
        ORDER BY s.account_id FOR NO KEY UPDATE) AS l;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written <> size THEN
        RAISE check_violation USING
            MESSAGE = format('%s recharges meant, %s accounts known', size, written);
    END IF;
    IF EXISTS (SELECT FROM unnest(event_ids, account_ids) AS l(event_id, account_id)
               JOIN public.transfer t ON t.account_id = l.account_id AND t.event_id = l.event_id) THEN
        RAISE insufficient_privilege USING MESSAGE = 'a recharge is an event of its own';
    END IF;

    WITH sale AS MATERIALIZED (
        SELECT * FROM unnest(event_ids, account_ids, amounts, ways, references_given, paid_ats, by_actors,
                             watches)
            AS t(event_id, account_id, amount, way, reference, paid_at, actor, watch)
    ), state AS (
        UPDATE public.account_state s
        SET transfer_seq = s.transfer_seq + 1, posted = s.posted + l.amount,
            purchase_no = s.purchase_no + 1, updated_at = greatest(s.updated_at, booked),
            watch_below = greatest(s.watch_below, l.watch)
        FROM sale l WHERE s.account_id = l.account_id
        RETURNING s.account_id, s.property_id, s.legal_entity_id, s.transfer_seq, s.posted,
                  l.event_id, l.amount, l.way, l.reference, l.paid_at, l.actor
    ), paid AS (
        INSERT INTO public.payment (property_id, account_id, event_id, amount_micro, way, reference,
            paid_at, accepted_at, taken_by)
        SELECT property_id, account_id, event_id, amount, way, reference, paid_at, booked, actor
        FROM state
    )
    INSERT INTO public.transfer (account_id, seq, property_id, legal_entity_id, event_id, kind,
        component, counter_account, amount, posted_after, currency, service_from, service_to, booked_at,
        actor, reason)
    SELECT s.account_id, s.transfer_seq, s.property_id, s.legal_entity_id, s.event_id, 2, 1,
           CASE s.way WHEN 'cash' THEN 1 ELSE 2 END, s.amount, s.posted, p.currency, booked, booked,
           booked, s.actor, 'recharge.' || s.way
    FROM state s JOIN public.property p ON p.id = s.property_id;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written <> size THEN
        RAISE EXCEPTION '% recharges meant, % written', size, written;
    END IF;
    RETURN written;
END $$;
REVOKE ALL ON FUNCTION append_recharges FROM PUBLIC;
