-- The message of a recharge says what of it went to debts and to charges collected with it, where anything did.
-- `append_sales` takes nothing of a recharge and stays; the other function's text is otherwise as it was.

DO $change$
DECLARE
    old CONSTANT text := pg_get_functiondef('book_recharges'::regproc);
    told CONSTANT text := $$'days_left_h', w.hours, 'receipt', w.n, 'event', w.e)$$;
    new CONSTANT text := replace(old, told, $$'days_left_h', w.hours, 'receipt', w.n, 'event', w.e)
                   || CASE WHEN w.d > 0 THEN jsonb_build_object('debt_micro', w.d) ELSE '{}' END
                   || CASE WHEN w.c > 0 THEN jsonb_build_object('collected_micro', w.c) ELSE '{}' END$$);
BEGIN
    IF position('collected_micro' IN new) = 0 THEN
        RAISE EXCEPTION 'book_recharges is not what it was expected to be';
    END IF;
    EXECUTE new;
END $change$;
