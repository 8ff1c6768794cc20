-- The lock between archiving and rating anew has two keys from now on: a lock of one key can be taken by
-- every login that sells, as keys of recharges are such, and one of two keys alone by no login.
DO $$
DECLARE
    each regprocedure;
BEGIN
    FOREACH each IN ARRAY ARRAY['public.correctable_from'::regproc::regprocedure,
                                'public.archive_month'::regproc::regprocedure] LOOP
        EXECUTE replace(pg_get_functiondef(each), '(20568)', '(20568, 0)');
    END LOOP;
END $$;
