-- A draft becomes a version of its own plan and of no other, whoever wrote the proposal: approve_tariff
-- (0009_approved_versions.sql) finds another plan's draft changed.
DO $$
DECLARE
    body text := pg_get_functiondef('public.approve_tariff'::regproc);
    told CONSTANT text := $told$AND d.property_id = p.property_id
$told$;
    tells CONSTANT text := $tells$AND d.property_id = p.property_id
              AND d.code = p.effect ->> 'code'
$tells$;
BEGIN
    IF position(told IN body) = 0 THEN
        RAISE EXCEPTION 'approve_tariff is not as 0009 made it';
    END IF;
    EXECUTE replace(body, told, tells);
END $$;
