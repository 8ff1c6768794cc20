-- What is booked lies in the time that has come. A payment of the year 9000 would hold off whatever is
-- judged by an account's own clock, and one of 'infinity' could never be read again, nor taken away.

-- The last instant that anything may be booked for: a day is for clocks that differ. The owner writes it anew
-- where a database's own clock runs ahead, as the demo's does over a weekend (walls.py); no login can. A
-- function of one expression stands in a policy as if it were written there.
CREATE FUNCTION latest_instant() RETURNS timestamptz LANGUAGE sql VOLATILE AS
    $$SELECT clock_timestamp() + interval '1 day'$$;

-- Whoever writes, instants are such as every reader has a date for.
ALTER TABLE transfer ADD CONSTRAINT transfer_has_dates CHECK (
    booked_at BETWEEN '1900-01-01 00:00:00+00' AND '9999-01-01 00:00:00+00'
    AND service_from >= '1900-01-01 00:00:00+00' AND service_to <= '9999-01-01 00:00:00+00') NOT VALID;
ALTER TABLE transfer VALIDATE CONSTRAINT transfer_has_dates;

-- Closes the books of a place before a day (0010_books.sql), which is at most tomorrow there: books closed
-- for good would take no recharge any more. Returns false where they are closed beyond it already.
DROP FUNCTION close_books;
CREATE FUNCTION close_books(place bigint, opens date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF opens > (SELECT (public.latest_instant() AT TIME ZONE p.time_zone)::date
                FROM public.property p WHERE p.id = place) THEN
        RAISE check_violation USING MESSAGE = 'books are closed before tomorrow at most';
    END IF;
    PERFORM pg_advisory_xact_lock(20567, place::integer);
    INSERT INTO public.ledger_period AS p (property_id, open_from) VALUES (place, opens)
        ON CONFLICT (property_id) DO UPDATE SET open_from = excluded.open_from
        WHERE p.open_from <= excluded.open_from;
    RETURN FOUND;
END $$;
REVOKE ALL ON FUNCTION close_books FROM PUBLIC;
