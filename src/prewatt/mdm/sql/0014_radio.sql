-- How a device is heard over a radio that a network server keeps: what was heard and lost since its first
-- word, how well, by which gateway, and the counter of the last frame that is committed, so that a restart
-- of the head-end lets no recording in. One row per device, written beside its readings.
CREATE TABLE radio_link (
    meter_id          bigint   PRIMARY KEY,
    property_id       bigint   NOT NULL,
    -- Under which name the network server knows it; empty: nobody has heard of it.
    address           text     NOT NULL DEFAULT '',
    f_cnt             bigint   CHECK (f_cnt BETWEEN 0 AND 4294967295),
    -- The server's own name of that frame: told again, it is no recording.
    event_id          text     NOT NULL DEFAULT '',
    heard_at          timestamptz,
    gateway           text     NOT NULL DEFAULT '',
    gateways          smallint NOT NULL DEFAULT 0,
    rssi_dbm          smallint,
    snr_db_tenths     smallint,
    spreading_factor  smallint,
    heard             bigint   NOT NULL DEFAULT 0,
    lost              bigint   NOT NULL DEFAULT 0,
    duplicates        bigint   NOT NULL DEFAULT 0,
    replays           bigint   NOT NULL DEFAULT 0,
    downlinks         bigint   NOT NULL DEFAULT 0,
    downlinks_lost    bigint   NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
