-- A set has recharges of many requests in one transaction, so the columns' defaults cannot say which is whose
-- (audit/sql/0002_origins.sql). The setting prewatt.requests has a line for each wish, in the order of the
-- set, and either function takes what it writes in the audit from there. Their text is otherwise as it was.

DO $change$
DECLARE
    named CONSTANT text := 'audit_event (property_id, happened_at, actor, code, subject, detail)';
    wider CONSTANT text := replace(named, 'detail)', 'detail, request_id, duty, address, browser)');
    words CONSTANT text := (
        SELECT string_agg(format('split_part(coalesce(lines[w.place], %L), %L, %s)', '', ' ', n), ', ')
        FROM generate_series(1, 4) AS n);
    figures CONSTANT text[] := ARRAY[
        $$jsonb_build_object('amount', w.amount, 'event', w.e, 'receipt', w.n)$$,
        $$jsonb_build_object('amount', w.m, 'event', w.e, 'receipt', w.n)$$];
    each text;
    old text;
    new text;
BEGIN
    FOREACH each IN ARRAY ARRAY['append_sales', 'book_recharges'] LOOP
        old := pg_get_functiondef(each::regproc);
        new := replace(old, named, wider);
        new := replace(replace(new, figures[1], figures[1] || ', ' || words),
                       figures[2], figures[2] || ', ' || words);
        new := regexp_replace(new, 'DECLARE\n', 'DECLARE' || chr(10)
            || $$    lines CONSTANT text[] := string_to_array(current_setting('prewatt.requests', true), chr(10));$$
            || chr(10));
        IF position(wider IN new) = 0 OR position('lines[w.place]' IN new) = 0
           OR position('lines CONSTANT' IN new) = 0 THEN
            RAISE EXCEPTION '% is not what it was expected to be', each;
        END IF;
        EXECUTE new;
    END LOOP;
END $change$;
