-- A change of plan that was withdrawn before it began has counted nothing: it keeps no month in the database,
-- and takes nobody's corrections away. What was corrected instead has counted, so it still does both.

CREATE OR REPLACE FUNCTION rating_reach() RETURNS interval
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN coalesce(bool_or(v.content @? '$.**.window ? (@ == "year" || @ == "season")'
                    OR v.content @? '$.**.per ? (@ == "year")'), false) THEN interval '400 days'
                ELSE interval '125 days' END
    FROM public.tariff_version v
    WHERE EXISTS (
        SELECT FROM public.tariff_assignment a
        WHERE a.tariff_id = v.tariff_id AND NOT a.withdraws AND NOT EXISTS (
            SELECT FROM public.tariff_assignment w WHERE w.account_id = a.account_id
              AND w.valid_from = a.valid_from AND w.withdraws AND w.id > a.id))
$$;

CREATE OR REPLACE FUNCTION purchasers() RETURNS TABLE (account_id bigint, opened_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.account_id, min(lower(m.period))
    FROM public.tariff_version v
    JOIN public.tariff_assignment a ON a.tariff_id = v.tariff_id
    JOIN public.meter_assignment m ON m.account_id = a.account_id
    WHERE v.content @? '$.**.window ? (@ == "purchase")' AND NOT a.withdraws AND NOT EXISTS (
            SELECT FROM public.tariff_assignment w WHERE w.account_id = a.account_id
              AND w.valid_from = a.valid_from AND w.withdraws AND w.id > a.id)
    GROUP BY a.account_id
$$;

CREATE OR REPLACE FUNCTION archived_purchasers(accounts bigint[]) RETURNS SETOF bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT DISTINCT a.account_id
    FROM public.tariff_assignment a
    WHERE a.account_id = ANY (accounts) AND NOT a.withdraws AND NOT EXISTS (
            SELECT FROM public.tariff_assignment w WHERE w.account_id = a.account_id
              AND w.valid_from = a.valid_from AND w.withdraws AND w.id > a.id)
      AND EXISTS (SELECT FROM public.archived_account x WHERE x.account_id = a.account_id)
      AND EXISTS (SELECT FROM public.tariff_version v WHERE v.tariff_id = a.tariff_id
          AND v.content @? '$.**.window ? (@ == "purchase")')
$$;
