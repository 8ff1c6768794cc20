-- Who may be a meter. Nobody writes these tables but the functions below, which belong to a role that nobody can
-- become: a code is good for one serial number and once, a device has one certificate that holds, and only
-- the holder of that certificate's key gets the next one. Each returns why not, or NULL once it is done.

-- The certificate of a property's issuer.
CREATE FUNCTION keep_device_issuer(place bigint, der bytea, digest bytea, ends timestamptz, at timestamptz)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    made bigint;
BEGIN
    INSERT INTO public.device_issuer (property_id, certificate, key_sha256, not_after, made_at)
    VALUES (place, der, digest, ends, at) RETURNING id INTO made;
    RETURN made;
END $$;

-- A code for a meter or concentrator of that property; a former one that is not used ends.
CREATE FUNCTION make_device_code(
    place bigint, device text, digest bytea, person text, at timestamptz, until timestamptz
) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM public.meter m WHERE m.serial = device AND m.property_id = place)
        AND NOT EXISTS (SELECT FROM public.concentrator c WHERE c.serial = device AND c.property_id = place)
    THEN
        RETURN 'unknown';
    ELSIF until > at + interval '31 days' THEN
        RETURN 'too_long';
    END IF;
    UPDATE public.device_code c SET used_at = at WHERE c.serial = device AND c.used_at IS NULL;
    INSERT INTO public.device_code (property_id, serial, code_sha256, made_by, made_at, expires_at)
    VALUES (place, device, digest, person, at, until);
    RETURN NULL;
END $$;

-- The first certificate of a device, or its first after a revocation or an expiry. Whoever comes second with the
-- same code, or for a device whose certificate holds, is refused.
CREATE FUNCTION enrol_device(
    device text, code bytea, issuer bigint, hex text, der bytea, digest bytea, ends timestamptz, at timestamptz
) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c public.device_code;
    latest public.device_certificate;
BEGIN
    SELECT * INTO c FROM public.device_code d WHERE d.code_sha256 = code AND d.serial = device FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'unknown_code';
    ELSIF c.used_at IS NOT NULL THEN
        RETURN 'used_code';
    ELSIF c.expires_at <= at THEN
        RETURN 'late_code';
    ELSIF NOT public.issuer_covers(issuer, c.property_id, ends, at) THEN
        RETURN 'issuer';
    END IF;
    SELECT * INTO latest FROM public.device_certificate d
    WHERE d.serial = device AND d.replaced_at IS NULL FOR UPDATE;
    IF FOUND AND latest.revoked_at IS NULL AND latest.not_after > at THEN
        RETURN 'enrolled';
    ELSIF EXISTS (SELECT FROM public.device_certificate d WHERE d.key_sha256 = digest) THEN
        RETURN 'old_key';
    END IF;
    UPDATE public.device_code d SET used_at = at WHERE d.id = c.id;
    UPDATE public.device_certificate d SET replaced_at = at WHERE d.id = latest.id;
    INSERT INTO public.device_certificate (property_id, serial, issuer_id, number, certificate, key_sha256,
                                           not_after, made_at, revoked_by, revoked_why)
    VALUES (c.property_id, device, issuer, hex, der, digest, ends, at, '', '');
    RETURN NULL;
END $$;

-- The next certificate of a device that showed the key of its present one, in the last quarter of its life.
CREATE FUNCTION renew_device(
    device text, former bytea, issuer bigint, hex text, der bytea, digest bytea, ends timestamptz, at timestamptz
) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    latest public.device_certificate;
BEGIN
    SELECT * INTO latest FROM public.device_certificate d
    WHERE d.serial = device AND d.replaced_at IS NULL FOR UPDATE;
    IF NOT FOUND OR latest.key_sha256 <> former THEN
        RETURN 'not_current';
    ELSIF latest.revoked_at IS NOT NULL THEN
        RETURN 'revoked';
    ELSIF latest.not_after <= at THEN
        RETURN 'expired';
    ELSIF latest.not_after > at + interval '91 days' THEN
        RETURN 'early';
    ELSIF NOT public.issuer_covers(issuer, latest.property_id, ends, at) THEN
        RETURN 'issuer';
    ELSIF EXISTS (SELECT FROM public.device_certificate d WHERE d.key_sha256 = digest) THEN
        RETURN 'old_key';
    END IF;
    UPDATE public.device_certificate d SET replaced_at = at WHERE d.id = latest.id;
    INSERT INTO public.device_certificate (property_id, serial, issuer_id, number, certificate, key_sha256,
                                           follows_id, not_after, made_at, revoked_by, revoked_why)
    VALUES (latest.property_id, device, issuer, hex, der, digest, latest.id, ends, at, '', '');
    RETURN NULL;
END $$;

-- Revokes every certificate of a device that would still be believed; returns how many.
CREATE FUNCTION revoke_device(place bigint, device text, why text, person text, at timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ended integer;
BEGIN
    UPDATE public.device_certificate d SET revoked_at = at, revoked_by = person, revoked_why = why
    WHERE d.property_id = place AND d.serial = device AND d.revoked_at IS NULL AND d.not_after > at;
    GET DIAGNOSTICS ended = ROW_COUNT;
    UPDATE public.device_code c SET used_at = at
    WHERE c.property_id = place AND c.serial = device AND c.used_at IS NULL;
    RETURN ended;
END $$;

-- Whether an issuer is that property's own and holds as long as what it signs, which is a year and some days at most.
CREATE FUNCTION issuer_covers(issuer bigint, place bigint, ends timestamptz, at timestamptz) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS
    $$SELECT ends BETWEEN at AND at + interval '366 days' AND EXISTS (
        SELECT FROM public.device_issuer i
        WHERE i.id = issuer AND i.property_id = place AND i.not_after >= ends)$$;

REVOKE ALL ON FUNCTION keep_device_issuer, make_device_code, enrol_device, renew_device, revoke_device,
    issuer_covers FROM PUBLIC;
