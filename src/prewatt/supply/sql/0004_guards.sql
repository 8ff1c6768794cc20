-- What holds of supply whoever asks: the brake, the steps of an order, the length of a payment hold.
-- The code says the same; this is for who has a duty's credential and not our code. Who owns the tables
-- could take all of it off, so nothing is asked of the owner.

-- The mass-cut brake is changed by three functions and by nobody's UPDATE. supply_policy carries no
-- trigger: it is a table that stands whole on every machine.

-- Locks the policy of a place until the end of the transaction; is_on is NULL where there is none.
CREATE FUNCTION lock_brake(place bigint, OUT is_on boolean, OUT released_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT p.brake_since IS NOT NULL, p.brake_released_at INTO is_on, released_at
    FROM public.supply_policy p WHERE p.property_id = place FOR UPDATE;
END $$;

-- Returns whether it was off before. A release that somebody asked for begins again.
CREATE FUNCTION put_brake_on(place bigint, at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE public.supply_policy
    SET brake_since = at, brake_release_asked_by = '', brake_release_asked_at = NULL
    WHERE property_id = place AND brake_since IS NULL;
    RETURN FOUND;
END $$;

-- The first call asks, the second, by somebody else, releases. Returns asked or released; brake_is_off or
-- same_person where nothing was changed.
CREATE FUNCTION release_brake(place bigint, by_actor text, at timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    since timestamptz;
    asked_by text;
BEGIN
    IF coalesce(by_actor, '') = '' THEN
        RAISE check_violation USING MESSAGE = 'somebody releases the brake';
    END IF;
    SELECT p.brake_since, p.brake_release_asked_by INTO since, asked_by
    FROM public.supply_policy p WHERE p.property_id = place FOR UPDATE;
    IF since IS NULL THEN
        RETURN 'brake_is_off';
    ELSIF asked_by = by_actor THEN
        RETURN 'same_person';
    ELSIF asked_by = '' THEN
        UPDATE public.supply_policy SET brake_release_asked_by = by_actor, brake_release_asked_at = at
        WHERE property_id = place;
        RETURN 'asked';
    END IF;
    UPDATE public.supply_policy
    SET brake_since = NULL, brake_released_at = at, brake_release_asked_by = '',
        brake_release_asked_at = NULL
    WHERE property_id = place;
    RETURN 'released';
END $$;
REVOKE ALL ON FUNCTION lock_brake, put_brake_on, release_brake FROM PUBLIC;

-- An order is born decided (or as what would have been), takes only the steps of core/orders.py, and
-- each of them by who takes it: the head-end carries it to its meter and back, the clerk lets it grow
-- old, and a later order supersedes it, whoever decided that one. An order that has ended never changes.
-- 1 decided, 2 sent, 3 acknowledged, 4 verified, 5 failed, 6 expired, 7 superseded, 8 would have.
CREATE FUNCTION order_moves() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own CONSTANT smallint[] := CASE current_user
        WHEN 'head_end' THEN '{2,3,4,5,6,7}' WHEN 'clerk' THEN '{6,7}' ELSE '{7}' END;
    legal smallint[];
BEGIN
    IF current_user = (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'INSERT' THEN
        IF NEW.state NOT IN (1, 8) OR NEW.attempts <> 0 OR NEW.sent_at IS NOT NULL
           OR NEW.acknowledged_at IS NOT NULL OR (NEW.finished_at IS NULL) <> (NEW.state = 1) THEN
            RAISE check_violation USING MESSAGE = 'an order begins as decided';
        END IF;
        RETURN NEW;
    END IF;
    legal := CASE OLD.state WHEN 1 THEN '{2,4,6,7}' WHEN 2 THEN '{2,3,4,5,6,7}'
        WHEN 3 THEN '{2,4,5,6,7}' ELSE '{}' END;
    IF NEW.state = OLD.state AND OLD.state IN (1, 2, 3) AND current_user = 'head_end'
       AND NEW.attempts >= OLD.attempts THEN
        -- The next attempt is set, or a meter's no is kept with the order.
        RETURN NEW;
    END IF;
    IF NEW.state <> ALL (legal) OR NEW.attempts < OLD.attempts THEN
        RAISE check_violation USING
            MESSAGE = format('an order does not go from state %s to %s', OLD.state, NEW.state);
    END IF;
    IF NEW.state <> ALL (own) THEN
        RAISE insufficient_privilege USING
            MESSAGE = format('%s does not take an order to state %s', current_user, NEW.state);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER order_moves BEFORE INSERT OR UPDATE ON supply_order
    FOR EACH ROW EXECUTE FUNCTION order_moves();

-- A payment on its way holds a cut for a week at most, and as long again if it is still on its way. By
-- the account's own clock where that is ahead of the database's; a day is for clocks that differ.
CREATE FUNCTION hold_is_bounded() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.payment_hold_until > interval '8 days' + greatest(clock_timestamp(), (
        SELECT s.updated_at FROM public.account_state s WHERE s.account_id = NEW.account_id)) THEN
        RAISE check_violation USING MESSAGE = 'a payment hold is a week at most';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER hold_is_bounded BEFORE INSERT OR UPDATE OF payment_hold_until ON supply_state
    FOR EACH ROW WHEN (NEW.payment_hold_until IS NOT NULL) EXECUTE FUNCTION hold_is_bounded();

-- Raises the levels below which ingest reports accounts. A level that is too high costs one look of
-- supply, which sets it right; one that is too low would let an account go on unseen, so it is never
-- lowered here. An account without supply is not watched at all.
CREATE FUNCTION raise_watch(accounts bigint[], levels bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    UPDATE public.account_state s
    SET watch_below = CASE WHEN EXISTS (SELECT FROM public.supply_state v
                                        WHERE v.account_id = s.account_id)
                           THEN greatest(s.watch_below, w.level) ELSE w.level END
    FROM unnest(accounts, levels) AS w(account_id, level)
    WHERE s.account_id = w.account_id;
END $$;
REVOKE ALL ON FUNCTION raise_watch FROM PUBLIC;
