-- Messages that nobody could read or place, within bounds, whoever sends them: an invented serial costs its
-- sender nothing, and each would be a row for ever. A thousand kinds of serials that nobody has, and twenty
-- reasons of each that somebody has, keep a sample of their own; what goes beyond is counted in a row for
-- all the others ('*'). No message is kept and not counted.

-- Whose a serial is; NULL: nobody's.
CREATE FUNCTION place_of_serial(asked text) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS
    'SELECT coalesce((SELECT property_id FROM public.meter WHERE serial = asked),
                     (SELECT property_id FROM public.concentrator WHERE serial = asked))';

-- Adds messages, told as columns: how often each serial and reason came, and the last sample of it.
CREATE FUNCTION keep_rejected(
    serials text[], reasons text[], samples bytea[], counts bigint[], firsts timestamptz[],
    lasts timestamptz[]
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    strangers_most CONSTANT bigint := 1000;
    reasons_most CONSTANT bigint := 20;
    latest CONSTANT timestamptz := (SELECT max(l) FROM unnest(lasts) AS l);
    room bigint;
    gone bigint;
BEGIN
    IF EXISTS (SELECT FROM unnest(counts) AS c WHERE c < 1) THEN
        RAISE check_violation USING MESSAGE = 'what came is counted';
    END IF;
    -- The row of all the others, and the lock under which there is room or not.
    INSERT INTO public.rejected_frame AS f (serial, reason, sample, count, first_at, last_at)
        VALUES ('*', 'others', '', 0, latest, latest) ON CONFLICT (serial, reason) DO NOTHING;
    PERFORM FROM public.rejected_frame WHERE serial = '*' AND reason = 'others' FOR UPDATE;

    -- A stranger that was silent for an hour makes room, so that a flood does not shut out for ever who
    -- comes after it; its count stays.
    SELECT strangers_most - count(*) INTO room FROM public.rejected_frame
        WHERE property_id IS NULL AND serial <> '*';
    IF room < cardinality(serials) THEN
        WITH silent AS (
            DELETE FROM public.rejected_frame WHERE frame_id IN (
                SELECT frame_id FROM public.rejected_frame
                WHERE property_id IS NULL AND serial <> '*' AND last_at < latest - interval '1 hour'
                ORDER BY last_at LIMIT cardinality(serials))
            RETURNING count)
        SELECT coalesce(sum(count), 0), room + count(*) INTO gone, room FROM silent;
        UPDATE public.rejected_frame SET count = count + gone
            WHERE serial = '*' AND reason = 'others' AND gone > 0;
    END IF;

    WITH came AS (
        SELECT c.serial, c.reason, c.sample, c.count, c.first_at, c.last_at,
               public.place_of_serial(c.serial) AS place, f.frame_id
        FROM unnest(serials, reasons, samples, counts, firsts, lasts)
            AS c(serial, reason, sample, count, first_at, last_at)
        LEFT JOIN public.rejected_frame f ON f.serial = c.serial AND f.reason = c.reason
    ), ranked AS (
        SELECT *, count(*) FILTER (WHERE frame_id IS NULL)
                      OVER (PARTITION BY CASE WHEN place IS NULL THEN '' ELSE serial END
                            ORDER BY last_at, serial, reason) AS place_no
        FROM came
    ), kept AS (
        SELECT *, serial <> '*' AND (frame_id IS NOT NULL OR place_no <= CASE WHEN place IS NULL
            THEN room ELSE reasons_most - (SELECT count(*) FROM public.rejected_frame r
                                           WHERE r.serial = ranked.serial) END) AS fits
        FROM ranked
    )
    INSERT INTO public.rejected_frame AS f (property_id, serial, reason, sample, count, first_at, last_at)
    SELECT min(place) FILTER (WHERE fits), CASE WHEN fits THEN serial ELSE '*' END,
           CASE WHEN fits THEN reason ELSE 'others' END,
           (array_agg(sample ORDER BY last_at DESC))[1], sum(count)::bigint, min(first_at), max(last_at)
    FROM kept GROUP BY 2, 3 ORDER BY 2, 3
    ON CONFLICT (serial, reason) DO UPDATE SET
        count = f.count + excluded.count, sample = excluded.sample,
        last_at = greatest(f.last_at, excluded.last_at);
    DELETE FROM public.rejected_frame WHERE serial = '*' AND reason = 'others' AND count = 0;
END $$;
REVOKE ALL ON FUNCTION place_of_serial, keep_rejected FROM PUBLIC;
