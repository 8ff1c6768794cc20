-- Months of readings and intervals that have left the database for files, and what left with them.

-- One row for each file. sums holds whole numbers by column; digest is that of month_digest, over every
-- column of every row, and is the same for the file and for the rows that were dropped.
CREATE TABLE archived_partition (
    base        text        NOT NULL CHECK (base IN ('register_reading', 'interval')),
    month       date        NOT NULL CHECK (month = date_trunc('month', month)),
    rows        bigint      NOT NULL CHECK (rows >= 0),
    sums        jsonb       NOT NULL,
    -- The end of the month, or of the last interval that began in it: a meter may have been silent.
    reaches_to  timestamptz NOT NULL,
    digest      bytea       NOT NULL CHECK (octet_length(digest) = 32),
    file_name   text        NOT NULL CHECK (file_name <> ''),
    folder      text        NOT NULL CHECK (folder <> ''),
    archived_at timestamptz NOT NULL,
    archived_by text        NOT NULL CHECK (archived_by <> ''),
    PRIMARY KEY (base, month)
);

-- What left of each register of each account, so that the books go on adding up. since_opening: whether
-- the rows are of the assignment that meter_state then told of, or of an earlier one of the same meter.
CREATE TABLE archived_account (
    account_id        bigint   NOT NULL,
    meter_id          bigint   NOT NULL,
    register_code     smallint NOT NULL,
    month             date     NOT NULL,
    since_opening     boolean  NOT NULL,
    property_id       bigint   NOT NULL,
    rows              bigint   NOT NULL CHECK (rows > 0),
    first_interval_no bigint   NOT NULL CHECK (first_interval_no > 0),
    last_interval_no  bigint   NOT NULL CHECK (last_interval_no >= first_interval_no),
    first_start_at    timestamptz NOT NULL,
    energy_wh         bigint   NOT NULL,
    charge_energy     bigint   NOT NULL,
    charge_standing   bigint   NOT NULL,
    charge_tax        bigint   NOT NULL,
    charge_fee        bigint   NOT NULL,
    charge_demand     bigint   NOT NULL,
    charge_subsidy    bigint   NOT NULL,
    rest_energy       bigint   NOT NULL,
    rest_fee          bigint   NOT NULL,
    rest_tax          bigint   NOT NULL,
    rest_subsidy      bigint   NOT NULL,
    PRIMARY KEY (account_id, meter_id, register_code, month, since_opening)
);

-- An archived month gets no partition again: what still comes of it lies in the default one.
CREATE OR REPLACE FUNCTION make_month_partitions(first date, last date) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    month date := greatest(date_trunc('month', first)::date,
        (SELECT max(a.month) + interval '1 month' FROM archived_partition a)::date);
    made integer := 0;
    base text;
    part text;
BEGIN
    WHILE month <= last LOOP
        FOREACH base IN ARRAY ARRAY['register_reading', 'interval'] LOOP
            part := base || '_' || to_char(month, 'YYYYMM');
            IF to_regclass(part) IS NULL THEN
                EXECUTE format(
                    'CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', part, base,
                    month::text || ' 00:00:00+00', (month + interval '1 month')::date::text || ' 00:00:00+00');
                made := made + 1;
            END IF;
        END LOOP;
        month := (month + interval '1 month')::date;
    END LOOP;
    RETURN made;
END $$;

-- How far before a correction rating has to look: the longest stretch that usage is counted over (a year,
-- else a quarter at most), and a month besides for bounds and demand. NULL: counts from purchase to purchase have no end, and
-- their accounts are rated from their opening.
CREATE FUNCTION rating_reach() RETURNS interval
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN coalesce(bool_or(content @? '$.**.window ? (@ == "purchase")'), false) THEN NULL
                WHEN coalesce(bool_or(content @? '$.**.window ? (@ == "year" || @ == "season")'
                    OR content @? '$.**.per ? (@ == "year")'), false) THEN interval '400 days'
                ELSE interval '125 days' END
    FROM public.tariff_version
$$;

-- The earliest instant that can be rated anew: before it, or in a stretch that it is counted with,
-- intervals are archived. It stands until the caller's transaction ends: archive_month waits for it.
CREATE FUNCTION correctable_from() RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(20568);
    SELECT max(reaches_to) INTO gone FROM public.archived_partition;
    IF gone IS NULL THEN
        RETURN '-infinity';
    END IF;
    RETURN coalesce(gone + public.rating_reach(), 'infinity');
END $$;

-- Rows, sums and digest of [since, until): SHA-256 over the SHA-256 of each account and meter in their
-- order; each of those over the record_send images of its rows, in the order of the key. The columns
-- and their order are those of mdm/archive_files.py.
CREATE FUNCTION interval_digest(
    since timestamptz, until timestamptz, OUT row_count bigint, OUT sums jsonb, OUT digest bytea
) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(sum(g.n), 0)::bigint,
           jsonb_build_object(
               'energy_wh', coalesce(sum(g.energy_wh), 0)::bigint,
               'charge_energy', coalesce(sum(g.charge_energy), 0)::bigint,
               'charge_standing', coalesce(sum(g.charge_standing), 0)::bigint,
               'charge_tax', coalesce(sum(g.charge_tax), 0)::bigint,
               'charge_fee', coalesce(sum(g.charge_fee), 0)::bigint,
               'charge_demand', coalesce(sum(g.charge_demand), 0)::bigint,
               'charge_subsidy', coalesce(sum(g.charge_subsidy), 0)::bigint),
           sha256(coalesce(string_agg(g.digest, ''::bytea ORDER BY g.account_id, g.meter_id), ''::bytea))
    FROM (
        SELECT i.account_id, i.meter_id, count(*) AS n, sum(i.energy_wh) AS energy_wh,
               sum(i.charge_energy) AS charge_energy, sum(i.charge_standing) AS charge_standing,
               sum(i.charge_tax) AS charge_tax, sum(i.charge_fee) AS charge_fee,
               sum(i.charge_demand) AS charge_demand, sum(i.charge_subsidy) AS charge_subsidy,
               sha256(string_agg(record_send(ROW(
                   i.account_id, i.meter_id, i.register_code, i.start_at, i.revision, i.segment,
                   i.property_id, i.interval_no, i.from_at, i.to_at, i.start_value_wh, i.end_value_wh,
                   i.multiplier, i.energy_wh, i.quality, i.source, i.received_at, i.tariff_version_id,
                   i.band, i.step, i.price_nano, i.charge_energy, i.charge_standing, i.charge_tax,
                   i.charge_fee, i.charge_demand, i.charge_subsidy, i.rest_energy, i.rest_fee,
                   i.rest_tax, i.rest_subsidy)), ''::bytea
                   ORDER BY i.register_code, i.start_at, i.revision, i.segment)) AS digest
        FROM public.interval i WHERE i.start_at >= since AND i.start_at < until
        GROUP BY i.account_id, i.meter_id
    ) g
$$;
CREATE FUNCTION register_reading_digest(
    since timestamptz, until timestamptz, OUT row_count bigint, OUT sums jsonb, OUT digest bytea
) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(sum(g.n), 0)::bigint,
           jsonb_build_object('value_wh', coalesce(sum(g.value_wh), 0)),
           sha256(coalesce(string_agg(g.digest, ''::bytea ORDER BY g.meter_id), ''::bytea))
    FROM (
        SELECT r.meter_id, count(*) AS n, sum(r.value_wh) AS value_wh,
               sha256(string_agg(record_send(ROW(
                   r.meter_id, r.register_code, r.read_at, r.revision, r.property_id, r.account_id,
                   r.value_wh, r.quality, r.source, r.received_at)), ''::bytea
                   ORDER BY r.register_code, r.read_at, r.revision)) AS digest
        FROM public.register_reading r WHERE r.read_at >= since AND r.read_at < until
        GROUP BY r.meter_id
    ) g
$$;

-- What is under way and still needs the rows before an instant, in words.
CREATE FUNCTION archive_reached(since timestamptz, until timestamptz) RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('%s accounts wait to be rated anew with it (account %s first)', count(*), min(account_id))
    FROM public.rerate_request
    WHERE done_at IS NULL AND from_at < until + coalesce(public.rating_reach(), interval '0')
    HAVING count(*) > 0
    UNION ALL
    SELECT format('%s held readings reach into it (case %s first)', count(*), min(case_id))
    FROM public.vee_case
    WHERE state = 'held' AND greatest(read_at, watermark_at) >= since AND least(read_at, watermark_at) < until
      -- What came after its own month was archived is decided without this one.
      AND read_at >= since
    HAVING count(*) > 0
$$;

-- Why a month may not be archived at an instant, in words; no row: it may.
CREATE FUNCTION archive_refusals(month date, at timestamptz) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- The last trial of a draft looks back over 90 days, rebates over 62, people over less.
    grace CONSTANT interval := '93 days';
    since timestamptz := month::timestamp AT TIME ZONE 'UTC';
    until timestamptz := (month + interval '1 month') AT TIME ZONE 'UTC';
    part text := 'interval_' || to_char(month, 'YYYYMM');
    reach interval := public.rating_reach();
    older text;
BEGIN
    IF month IS DISTINCT FROM date_trunc('month', month)::date THEN
        RETURN NEXT 'a month is named by its first day';
        RETURN;
    END IF;
    IF to_regclass('public.' || part) IS NULL OR NOT EXISTS (
        SELECT FROM pg_inherits WHERE inhrelid = to_regclass('public.' || part)
    ) THEN
        RETURN NEXT 'it has no partition';
        RETURN;
    END IF;
    IF reach IS NULL THEN
        RETURN NEXT 'a tariff counts from purchase to purchase, and is rated anew from the opening of its accounts';
    ELSIF until + grace + reach > at THEN
        RETURN NEXT format('it can still be corrected until %s', to_char((until + grace + reach) AT TIME ZONE 'UTC', 'YYYY-MM-DD'));
    END IF;
    SELECT min(right(c.relname, 6)) INTO older FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid
        WHERE h.inhparent IN ('public.interval'::regclass, 'public.register_reading'::regclass)
          AND c.relname ~ '_\d{6}$' AND right(c.relname, 6) < to_char(month, 'YYYYMM');
    IF older IS NOT NULL THEN
        RETURN NEXT format('%s-%s is archived before it', left(older, 4), right(older, 2));
    END IF;
    RETURN QUERY SELECT format('%s of its intervals are not posted (account %s first)', count(*), min(i.account_id))
        FROM public.interval i JOIN public.account_state s USING (account_id)
        WHERE i.start_at >= since AND i.start_at < until AND i.interval_no > s.posted_interval_no
        HAVING count(*) > 0;
    RETURN QUERY SELECT * FROM public.archive_reached(since, until);
END $$;

-- Take a month out of the database, in the caller's transaction. The digests are those that were made
-- of the files as read back: nothing is dropped that is not in them.
CREATE FUNCTION archive_month(
    month date, interval_digest bytea, reading_digest bytea, interval_file text, reading_file text,
    folder text, at timestamptz
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET lock_timeout = '500ms' SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    since CONSTANT timestamptz := archive_month.month::timestamp AT TIME ZONE 'UTC';
    until CONSTANT timestamptz := (archive_month.month + interval '1 month') AT TIME ZONE 'UTC';
    suffix CONSTANT text := to_char(archive_month.month, 'YYYYMM');
    login CONSTANT text := 'login:' || session_user;
    why text;
    intervals record;
    readings record;
    last_to timestamptz;
BEGIN
    -- Each statement has to see what was committed before the locks were there.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'archive_month needs READ COMMITTED';
    END IF;
    SELECT string_agg(r, '; ') INTO why FROM public.archive_refusals(archive_month.month, archive_month.at) AS r;
    IF why IS NOT NULL THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = why;
    END IF;
    -- From here on nobody adds a row to the month; everything else goes on.
    EXECUTE format('LOCK TABLE public.%I, public.%I IN SHARE MODE', 'interval_' || suffix, 'register_reading_' || suffix);
    SELECT * INTO intervals FROM public.interval_digest(since, until);
    SELECT * INTO readings FROM public.register_reading_digest(since, until);
    IF intervals.digest IS DISTINCT FROM archive_month.interval_digest
       OR readings.digest IS DISTINCT FROM archive_month.reading_digest THEN
        RAISE object_not_in_prerequisite_state
            USING MESSAGE = 'the files are not what the database has: rows came in since, or they are of another database';
    END IF;
    INSERT INTO public.archived_account
        SELECT i.account_id, i.meter_id, i.register_code, archive_month.month,
               coalesce(i.start_at >= m.opened_at, false) AS since_opening, i.property_id, count(*),
               min(i.interval_no), max(i.interval_no), min(i.start_at), sum(i.energy_wh),
               sum(i.charge_energy), sum(i.charge_standing), sum(i.charge_tax), sum(i.charge_fee),
               sum(i.charge_demand), sum(i.charge_subsidy), sum(i.rest_energy), sum(i.rest_fee),
               sum(i.rest_tax), sum(i.rest_subsidy)
        FROM public.interval i
        LEFT JOIN public.meter_state m ON m.account_id = i.account_id AND m.meter_id = i.meter_id
            AND m.register_code = i.register_code
        WHERE i.start_at >= since AND i.start_at < until
        GROUP BY i.account_id, i.meter_id, i.register_code, since_opening, i.property_id;
    INSERT INTO public.audit_event (property_id, happened_at, actor, code, subject, detail)
        SELECT p.property_id, archive_month.at, login, 'mdm.month.archived',
               'month:' || to_char(archive_month.month, 'YYYY-MM'),
               jsonb_build_object('folder', archive_month.folder, 'interval_file', archive_month.interval_file,
                   'reading_file', archive_month.reading_file, 'intervals', intervals.row_count,
                   'readings', readings.row_count, 'interval_digest', encode(intervals.digest, 'hex'),
                   'reading_digest', encode(readings.digest, 'hex'))
        FROM (SELECT DISTINCT property_id FROM public.interval WHERE start_at >= since AND start_at < until
              UNION SELECT property_id FROM public.register_reading WHERE read_at >= since AND read_at < until) p;
    SELECT greatest(until, max(to_at)) INTO last_to
        FROM public.interval WHERE start_at >= since AND start_at < until;
    INSERT INTO public.archived_partition (base, month, rows, sums, reaches_to, digest, file_name, folder,
        archived_at, archived_by) VALUES
        ('interval', archive_month.month, intervals.row_count, intervals.sums, last_to, intervals.digest,
         archive_month.interval_file, archive_month.folder, archive_month.at, login),
        ('register_reading', archive_month.month, readings.row_count, readings.sums, until, readings.digest,
         archive_month.reading_file, archive_month.folder, archive_month.at, login);
    -- Nobody who looked at correctable_from is still at work, and what they asked for is seen here.
    PERFORM pg_advisory_xact_lock(20568);
    SELECT string_agg(r, '; ') INTO why FROM public.archive_reached(since, until) AS r;
    IF why IS NOT NULL THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = why;
    END IF;
    EXECUTE format('ALTER TABLE public.interval DETACH PARTITION public.%I', 'interval_' || suffix);
    EXECUTE format('ALTER TABLE public.register_reading DETACH PARTITION public.%I', 'register_reading_' || suffix);
    EXECUTE format('DROP TABLE public.%I, public.%I', 'interval_' || suffix, 'register_reading_' || suffix);
END $$;

REVOKE ALL ON FUNCTION rating_reach(), correctable_from(), archive_reached(timestamptz, timestamptz),
    archive_refusals(date, timestamptz), interval_digest(timestamptz, timestamptz),
    register_reading_digest(timestamptz, timestamptz),
    archive_month(date, bytea, bytea, text, text, text, timestamptz) FROM PUBLIC;
