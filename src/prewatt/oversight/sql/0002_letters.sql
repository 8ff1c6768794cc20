-- Who is written of findings, and commands that change tables themselves.

-- Everybody who is an auditor of a property by now.
CREATE FUNCTION auditors_of(place bigint) RETURNS SETOF bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT DISTINCT g.user_id FROM public.duty_grant g
    WHERE g.duty = 'auditor' AND g.ended_at IS NULL AND public.is_auditor(g.user_id, place)
$$;

-- Whether a command is one of ours: made by a function that a process may call (its login cannot make any
-- itself), or by a migration, which says afterwards that it was made.
CREATE FUNCTION is_own_command() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT session_user IN ('web', 'head_end', 'clerk', 'keeper', 'witness')
        OR current_setting('prewatt.migrating', true) = 'yes' AND session_user = (
            SELECT tableowner FROM pg_tables WHERE schemaname = 'public' AND tablename = 'audit_event')
$$;

-- Notes a command that makes or alters a table, function, policy, trigger or right: once for each thing that it names,
-- a hundred at most. A table of its session alone is nobody's business.
CREATE FUNCTION note_command() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF public.is_own_command() THEN
        RETURN;
    END IF;
    INSERT INTO public.unexplained_change (property_id, table_name, operation, row_count, transaction,
                                           happened_at, login, role, address, program)
    SELECT NULL, left(coalesce(c.object_identity, c.object_type, ''), 63), 'command', 0,
           pg_current_xact_id()::text::bigint, clock_timestamp(), session_user, current_setting('role'),
           coalesce(host(inet_client_addr()), ''), left(current_setting('application_name'), 64)
    FROM (SELECT DISTINCT d.object_identity, d.object_type FROM pg_event_trigger_ddl_commands() d
          WHERE NOT coalesce(d.schema_name, '') LIKE 'pg_temp%' LIMIT 100) AS c;
END $$;

-- The same of what is dropped. What goes with the table of a session goes unnoted as it came.
CREATE FUNCTION note_drop() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF public.is_own_command() THEN
        RETURN;
    END IF;
    INSERT INTO public.unexplained_change (property_id, table_name, operation, row_count, transaction,
                                           happened_at, login, role, address, program)
    SELECT NULL, left(d.object_identity, 63), 'drop', 0, pg_current_xact_id()::text::bigint,
           clock_timestamp(), session_user, current_setting('role'),
           coalesce(host(inet_client_addr()), ''), left(current_setting('application_name'), 64)
    FROM (SELECT x.object_identity FROM pg_event_trigger_dropped_objects() x
          WHERE x.original AND NOT x.is_temporary LIMIT 100) AS d;
END $$;
REVOKE ALL ON FUNCTION auditors_of, note_command, note_drop FROM PUBLIC;
