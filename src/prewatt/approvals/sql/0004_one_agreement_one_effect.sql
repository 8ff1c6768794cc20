-- One agreement is taken for one effect. Whoever approves and breaks the glass for the same subject in one
-- transaction has agreed to two: the oldest is taken first, and agreed_is_done refuses to commit the other
-- until its own effect was made. Before, such a transaction failed as well, but only because PL/pgSQL stores
-- no second row INTO a variable: nothing that says what is refused, or that a rewrite would have kept.
CREATE OR REPLACE FUNCTION take_agreed(what text, place bigint, about text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    change jsonb;
BEGIN
    UPDATE public.proposal p SET done_at = clock_timestamp()
    WHERE p.id = (
        SELECT q.id FROM public.proposal q
        WHERE q.property_id = place AND q.kind = what AND q.subject = about AND q.done_at IS NULL
          AND q.agreed_in = pg_current_xact_id()::text::bigint
          AND q.state IN ('approved', 'alone', 'emergency', 'rehearsal')
        ORDER BY q.id LIMIT 1)
    RETURNING p.effect INTO change;
    RETURN change;
END $$;
