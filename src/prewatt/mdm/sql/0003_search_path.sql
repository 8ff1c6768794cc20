-- A temporary table is looked for before any other unless pg_temp is named last: nobody shall slip one
-- under a function that runs with its owner's rights.
ALTER FUNCTION make_month_partitions(date, date) SET search_path = public, pg_temp;
