-- Readings and intervals: keys start with account_id (raw readings with meter_id), partitioned by
-- month, append-only by grants. A default partition catches what no month was made for, so that
-- nothing is ever refused for want of a partition.

-- The watermark of one register of one meter for one account: an assignment's life in numbers.
CREATE TABLE meter_state (
    account_id        bigint   NOT NULL,
    meter_id          bigint   NOT NULL,
    register_code     smallint NOT NULL,
    property_id       bigint   NOT NULL,
    multiplier        integer  NOT NULL CHECK (multiplier > 0),
    modulus_wh        bigint   NOT NULL CHECK (modulus_wh > 0),
    max_power_w       bigint   NOT NULL CHECK (max_power_w > 0),
    expected_period_s integer  NOT NULL CHECK (expected_period_s > 0),
    opened_at         timestamptz NOT NULL,
    opened_value_wh   bigint   NOT NULL,
    closed_at         timestamptz NOT NULL DEFAULT 'infinity',
    last_at           timestamptz NOT NULL,
    last_value_wh     bigint   NOT NULL,
    received_at       timestamptz NOT NULL,
    PRIMARY KEY (account_id, meter_id, register_code),
    CHECK (last_at >= opened_at),
    CHECK (last_at <= closed_at)
) WITH (fillfactor = 50);
CREATE INDEX meter_state_by_meter ON meter_state (meter_id);

-- What the head-end last heard of a device, whoever pays for it.
CREATE TABLE meter_link (
    meter_id        bigint   PRIMARY KEY,
    property_id     bigint   NOT NULL,
    last_seen_at    timestamptz NOT NULL,
    -- Relay as last read back: 0 unknown, 1 closed, 2 open (core/vocabulary.py RelayState).
    relay           smallint NOT NULL DEFAULT 0 CHECK (relay IN (0, 1, 2)),
    relay_read_at   timestamptz NOT NULL DEFAULT '-infinity',
    clock_drift_s   integer  NOT NULL DEFAULT 0,
    tamper_since    timestamptz,
    firmware        text     NOT NULL DEFAULT ''
) WITH (fillfactor = 50);

-- A reading as it came. account_id is who paid by the meter at read_at, as far as it was known when the
-- reading came. value_wh is in the register's own unit: varh for reactive energy, W for maximum demand.
CREATE TABLE register_reading (
    meter_id       bigint   NOT NULL,
    register_code  smallint NOT NULL,
    read_at        timestamptz NOT NULL,
    revision       smallint NOT NULL,
    property_id    bigint   NOT NULL,
    account_id     bigint   NOT NULL,
    value_wh       bigint   NOT NULL CHECK (value_wh >= 0),
    quality        smallint NOT NULL,
    source         smallint NOT NULL,
    received_at    timestamptz NOT NULL,
    PRIMARY KEY (meter_id, register_code, read_at, revision)
) PARTITION BY RANGE (read_at);
CREATE TABLE register_reading_default PARTITION OF register_reading DEFAULT;

-- The usage between two readings, cut into segments at band, tariff, tenant and day boundaries.
-- start_at names the interval (its opening reading), from_at/to_at the segment. A revision
-- supersedes an interval by reversing its segments (negative rows, segment >= 10000) and adding
-- new ones, so plain sums over any range of interval_no are always right.
CREATE TABLE interval (
    account_id        bigint   NOT NULL,
    meter_id          bigint   NOT NULL,
    register_code     smallint NOT NULL,
    start_at          timestamptz NOT NULL,
    revision          smallint NOT NULL CHECK (revision >= 0),
    segment           smallint NOT NULL CHECK (segment >= 0),
    property_id       bigint   NOT NULL,
    interval_no       bigint   NOT NULL CHECK (interval_no > 0),
    from_at           timestamptz NOT NULL,
    to_at             timestamptz NOT NULL,
    start_value_wh    bigint   NOT NULL,
    end_value_wh      bigint   NOT NULL,
    multiplier        integer  NOT NULL,
    energy_wh         bigint   NOT NULL,
    quality           smallint NOT NULL,
    source            smallint NOT NULL,
    received_at       timestamptz NOT NULL,
    tariff_version_id bigint   NOT NULL,
    band              smallint NOT NULL,
    price_nano        bigint   NOT NULL,
    charge_energy     bigint   NOT NULL,
    charge_standing   bigint   NOT NULL,
    charge_tax        bigint   NOT NULL,
    charge_fee        bigint   NOT NULL,
    charge_demand     bigint   NOT NULL,
    PRIMARY KEY (account_id, meter_id, register_code, start_at, revision, segment),
    CHECK (from_at < to_at),
    CHECK (start_at <= from_at),
    CHECK (energy_wh >= 0 OR segment >= 10000)
) PARTITION BY RANGE (start_at);
CREATE TABLE interval_default PARTITION OF interval DEFAULT;
CREATE INDEX interval_by_number ON interval (account_id, interval_no);

-- A reading that VEE holds: kept whole with its reason until a person releases or discards it.
-- watermark_* is what it was held against: the meter's watermark; in a register that has none, the
-- contradicted reading of the same instant, or the begin of the assignment with zero.
CREATE TABLE vee_case (
    case_id        bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    property_id    bigint   NOT NULL,
    meter_id       bigint   NOT NULL,
    account_id     bigint   NOT NULL,
    register_code  smallint NOT NULL,
    read_at        timestamptz NOT NULL,
    value_wh       bigint   NOT NULL,
    source         smallint NOT NULL,
    received_at    timestamptz NOT NULL,
    verdict        smallint NOT NULL,
    reason         text     NOT NULL CHECK (reason <> ''),
    watermark_at   timestamptz NOT NULL,
    watermark_wh   bigint   NOT NULL,
    state          text     NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'released', 'discarded')),
    closed_at      timestamptz,
    closed_by      text,
    close_reason   text,
    -- The same bad reading sent again is the same case.
    UNIQUE NULLS NOT DISTINCT (meter_id, register_code, read_at, value_wh, verdict),
    CHECK ((state = 'held') = (closed_at IS NULL)),
    CHECK ((closed_at IS NULL) = (closed_by IS NULL)),
    CHECK ((closed_at IS NULL) = (close_reason IS NULL))
);
CREATE INDEX vee_case_open ON vee_case (property_id, state);

-- A frame nobody could read: an unknown meter, a foreign property, a malformed payload.
CREATE TABLE rejected_frame (
    frame_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    property_id  bigint,
    serial       text   NOT NULL,
    reason       text   NOT NULL,
    sample       bytea  NOT NULL CHECK (octet_length(sample) <= 4096),
    count        bigint NOT NULL DEFAULT 1,
    first_at     timestamptz NOT NULL,
    last_at      timestamptz NOT NULL,
    UNIQUE (serial, reason)
);

-- Partitions are made ahead by the keeper only, through this function.
CREATE FUNCTION make_month_partitions(first date, last date) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE
    month date := date_trunc('month', first)::date;
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
REVOKE ALL ON FUNCTION make_month_partitions(date, date) FROM PUBLIC;
