-- Whom a company's directory signs in. The first time it is the person with that address; from then on the directory's
-- own name for them decides alone, for an address can be given to somebody else, there as here.

-- The person behind a directory's subject, NULL for nobody. Two people of the directory are never one of ours.
CREATE FUNCTION known_by_directory(which text, who text, address text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found bigint;
BEGIN
    SELECT d.user_id INTO found FROM public.directory_person d WHERE d.issuer = which AND d.subject = who;
    IF found IS NULL THEN
        INSERT INTO public.directory_person (user_id, issuer, subject)
        SELECT u.id, which, who FROM public.app_user u WHERE u.email = lower(address) AND u.is_active
        ON CONFLICT DO NOTHING RETURNING user_id INTO found;
    END IF;
    RETURN (SELECT u.id FROM public.app_user u WHERE u.id = found AND u.is_active);
END $$;
REVOKE ALL ON FUNCTION known_by_directory FROM PUBLIC;
