-- A month of any size: its digest is a chain over its rows and gathers nothing, and an account that counts
-- from purchase to purchase keeps the months that it used energy in, and no other's corrections.

-- Version 1 gathered a meter's rows, and all meters' digests, in one value each, which PostgreSQL ends at
-- 1 GiB: 2.4 million rows of a meter, or 33 million meters. Files of that time are verified by it.
ALTER TABLE archived_partition ADD COLUMN digest_version smallint NOT NULL DEFAULT 1
    CHECK (digest_version IN (1, 2));
ALTER TABLE archived_partition ALTER COLUMN digest_version SET DEFAULT 2;

-- The SHA-256 of the link before and a row's image. Its names are whole, because a search path of its own
-- would be set anew for each row.
CREATE FUNCTION archive_link(link bytea, image bytea) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN pg_catalog.sha256(link OPERATOR(pg_catalog.||) image);
END $$;
-- It begins with the SHA-256 of nothing, which is the digest of no rows.
CREATE AGGREGATE archive_chain(bytea) (
    SFUNC = archive_link, STYPE = bytea,
    INITCOND = '\xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
);

-- Rows, sums and digest of [since, until): the chain over the record_send images of the rows in the order
-- of the key. The columns and their order are those of mdm/archive_files.py.
CREATE OR REPLACE FUNCTION interval_digest(
    since timestamptz, until timestamptz, OUT row_count bigint, OUT sums jsonb, OUT digest bytea
) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*),
           jsonb_build_object(
               'energy_wh', coalesce(sum(i.energy_wh), 0),
               'charge_energy', coalesce(sum(i.charge_energy), 0),
               'charge_standing', coalesce(sum(i.charge_standing), 0),
               'charge_tax', coalesce(sum(i.charge_tax), 0),
               'charge_fee', coalesce(sum(i.charge_fee), 0),
               'charge_demand', coalesce(sum(i.charge_demand), 0),
               'charge_subsidy', coalesce(sum(i.charge_subsidy), 0)),
           public.archive_chain(record_send(ROW(
               i.account_id, i.meter_id, i.register_code, i.start_at, i.revision, i.segment,
               i.property_id, i.interval_no, i.from_at, i.to_at, i.start_value_wh, i.end_value_wh,
               i.multiplier, i.energy_wh, i.quality, i.source, i.received_at, i.tariff_version_id,
               i.band, i.step, i.price_nano, i.charge_energy, i.charge_standing, i.charge_tax,
               i.charge_fee, i.charge_demand, i.charge_subsidy, i.rest_energy, i.rest_fee,
               i.rest_tax, i.rest_subsidy))
               ORDER BY i.account_id, i.meter_id, i.register_code, i.start_at, i.revision, i.segment)
    FROM public.interval i WHERE i.start_at >= since AND i.start_at < until
$$;
CREATE OR REPLACE FUNCTION register_reading_digest(
    since timestamptz, until timestamptz, OUT row_count bigint, OUT sums jsonb, OUT digest bytea
) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*), jsonb_build_object('value_wh', coalesce(sum(r.value_wh), 0)),
           public.archive_chain(record_send(ROW(
               r.meter_id, r.register_code, r.read_at, r.revision, r.property_id, r.account_id,
               r.value_wh, r.quality, r.source, r.received_at))
               ORDER BY r.meter_id, r.register_code, r.read_at, r.revision)
    FROM public.register_reading r WHERE r.read_at >= since AND r.read_at < until
$$;

-- How far before a correction rating has to look: the longest stretch that usage is counted over (a year,
-- else a quarter at most), and a month besides for bounds and demand. Only plans that somebody is or was
-- on matter. Counts from purchase to purchase have no end, and are for purchasers to ask about.
CREATE OR REPLACE FUNCTION rating_reach() RETURNS interval
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN coalesce(bool_or(v.content @? '$.**.window ? (@ == "year" || @ == "season")'
                    OR v.content @? '$.**.per ? (@ == "year")'), false) THEN interval '400 days'
                ELSE interval '125 days' END
    FROM public.tariff_version v
    WHERE EXISTS (SELECT FROM public.tariff_assignment a WHERE a.tariff_id = v.tariff_id)
$$;

-- Accounts that are or were on a plan that counts from purchase to purchase, and since when they use
-- energy: they are rated anew from there on.
CREATE FUNCTION purchasers() RETURNS TABLE (account_id bigint, opened_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.account_id, min(lower(m.period))
    FROM public.tariff_version v
    JOIN public.tariff_assignment a ON a.tariff_id = v.tariff_id
    JOIN public.meter_assignment m ON m.account_id = a.account_id
    WHERE v.content @? '$.**.window ? (@ == "purchase")'
    GROUP BY a.account_id
$$;

-- Those of some accounts whose counts from purchase to purchase have lost a month: somebody put them on such
-- a plan after it had been archived. Nothing of theirs can be rated anew.
CREATE FUNCTION archived_purchasers(accounts bigint[]) RETURNS SETOF bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT DISTINCT a.account_id
    FROM public.tariff_assignment a
    WHERE a.account_id = ANY (accounts)
      AND EXISTS (SELECT FROM public.archived_account x WHERE x.account_id = a.account_id)
      AND EXISTS (SELECT FROM public.tariff_version v WHERE v.tariff_id = a.tariff_id
          AND v.content @? '$.**.window ? (@ == "purchase")')
$$;

DO $$
DECLARE
    body text := pg_get_functiondef('public.archive_refusals'::regproc);
    told CONSTANT text := $told$    IF reach IS NULL THEN
        RETURN NEXT 'a tariff counts from purchase to purchase, and is rated anew from the opening of its accounts';
    ELSIF until + grace + reach > at THEN$told$;
    tells CONSTANT text := $tells$    RETURN QUERY SELECT format('%s accounts count from purchase to purchase, and are rated anew from their opening (account %s first)', count(*), min(p.account_id))
        FROM public.purchasers() p WHERE p.opened_at < until HAVING count(*) > 0;
    IF until + grace + reach > at THEN$tells$;
BEGIN
    IF position(told IN body) = 0 THEN
        RAISE EXCEPTION 'archive_refusals is not as 0005 made it';
    END IF;
    EXECUTE replace(body, told, tells);
END $$;

REVOKE ALL ON FUNCTION archive_link(bytea, bytea), archive_chain(bytea), purchasers(),
    archived_purchasers(bigint[]) FROM PUBLIC;
