-- Books are closed by a function: who closes them is alone with the property's books, and nobody else can
-- be. Every entry shares the advisory lock (20567, property) until it commits; the functions that take a
-- lock of two keys alone are closed to every login (walls.py), so that no duty can hold the books shut.

-- Closes the books of a place before a day. Returns false where they are closed beyond it already.
CREATE FUNCTION close_books(place bigint, opens date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(20567, place::integer);
    INSERT INTO public.ledger_period AS p (property_id, open_from) VALUES (place, opens)
        ON CONFLICT (property_id) DO UPDATE SET open_from = excluded.open_from
        WHERE p.open_from <= excluded.open_from;
    RETURN FOUND;
END $$;
REVOKE ALL ON FUNCTION close_books FROM PUBLIC;
