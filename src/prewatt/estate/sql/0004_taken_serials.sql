-- Whether a serial number is somebody's, at whatever property, and not whose: topics of the broker are for
-- all of them, and who registers a device sees only their own.
CREATE FUNCTION serial_is_taken(asked text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM public.meter WHERE serial = asked)
        OR EXISTS (SELECT FROM public.concentrator WHERE serial = asked)
$$;
REVOKE ALL ON FUNCTION serial_is_taken FROM PUBLIC;
