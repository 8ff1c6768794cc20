-- The ledger's hot tables. Keys start with account_id; no triggers, no foreign keys out, and
-- append-only is enforced by grants (walls.py), so that the same schema can be distributed.

-- One row per account, locked first by every writer, in account_id order.
-- fillfactor leaves room for HOT updates; no index stands on a column that changes.
CREATE TABLE account_state (
    account_id          bigint  PRIMARY KEY,
    property_id         bigint  NOT NULL,
    legal_entity_id     bigint  NOT NULL,
    -- Money in micro-units. posted = sum of transfers; accrued_* = charges not yet posted.
    posted              bigint  NOT NULL DEFAULT 0,
    accrued_energy      bigint  NOT NULL DEFAULT 0,
    accrued_standing    bigint  NOT NULL DEFAULT 0,
    accrued_tax         bigint  NOT NULL DEFAULT 0,
    accrued_fee         bigint  NOT NULL DEFAULT 0,
    accrued_demand      bigint  NOT NULL DEFAULT 0,
    available           bigint  GENERATED ALWAYS AS (posted - accrued_energy - accrued_standing
                                  - accrued_tax - accrued_fee - accrued_demand) STORED,
    -- What each component still owes to exactness, in its own denominator (core/rating.py).
    carry_energy        bigint  NOT NULL DEFAULT 0 CHECK (carry_energy   BETWEEN 0 AND 999999),
    carry_standing      bigint  NOT NULL DEFAULT 0 CHECK (carry_standing >= 0),
    carry_tax           bigint  NOT NULL DEFAULT 0 CHECK (carry_tax      >= 0),
    carry_fee           bigint  NOT NULL DEFAULT 0 CHECK (carry_fee      >= 0),
    carry_demand        bigint  NOT NULL DEFAULT 0 CHECK (carry_demand   >= 0),
    -- Gapless counters, taken under this row's lock.
    transfer_seq        bigint  NOT NULL DEFAULT 0 CHECK (transfer_seq >= 0),
    interval_no         bigint  NOT NULL DEFAULT 0 CHECK (interval_no >= 0),
    posted_interval_no  bigint  NOT NULL DEFAULT 0 CHECK (posted_interval_no >= 0),
    posting_no          bigint  NOT NULL DEFAULT 0 CHECK (posting_no >= 0),
    -- Ingest reports an account whose available money falls below this level (supply sets it).
    watch_below         bigint  NOT NULL DEFAULT 0,
    -- Average charge per day over the last two weeks, for "days left"; set at posting.
    spend_per_day       bigint  NOT NULL DEFAULT 0 CHECK (spend_per_day >= 0),
    last_interval_at    timestamptz NOT NULL DEFAULT '-infinity',
    updated_at          timestamptz NOT NULL,
    CHECK (posted_interval_no <= interval_no)
) WITH (fillfactor = 50);

-- One immutable row moves an amount between an account and a counter-account.
-- amount > 0 adds to the wallet. posted_after chains the rows: the next row starts from it.
CREATE TABLE transfer (
    account_id        bigint   NOT NULL,
    seq               bigint   NOT NULL CHECK (seq > 0),
    property_id       bigint   NOT NULL,
    legal_entity_id   bigint   NOT NULL,
    event_id          bigint   NOT NULL,
    kind              smallint NOT NULL,
    component         smallint NOT NULL,
    band              smallint NOT NULL DEFAULT 0,
    counter_account   smallint NOT NULL,
    amount            bigint   NOT NULL CHECK (amount <> 0),
    posted_after      bigint   NOT NULL,
    currency          char(3)  NOT NULL,
    energy_wh         bigint   NOT NULL DEFAULT 0,
    tax_rate_ppm      integer  NOT NULL DEFAULT 0 CHECK (tax_rate_ppm >= 0),
    service_from      timestamptz NOT NULL,
    service_to        timestamptz NOT NULL,
    booked_at         timestamptz NOT NULL,
    -- The event this one corrects, and the very row of it; both or neither.
    corrects_event_id bigint,
    corrects_seq      bigint,
    actor             text     NOT NULL,
    reason            text     NOT NULL CHECK (reason <> ''),
    PRIMARY KEY (account_id, seq),
    CHECK (service_from <= service_to),
    CHECK ((corrects_event_id IS NULL) = (corrects_seq IS NULL)),
    CHECK (corrects_seq < seq),
    CHECK (kind NOT IN (4, 7) OR corrects_seq IS NOT NULL OR kind = 4)
);
CREATE INDEX transfer_by_event ON transfer (account_id, event_id);
CREATE INDEX transfer_by_booking ON transfer USING brin (booked_at);

-- A posting event closes the range (interval_no_from, interval_no_to] and commits to it by hash.
CREATE TABLE posting (
    account_id        bigint  NOT NULL,
    posting_no        bigint  NOT NULL CHECK (posting_no > 0),
    property_id       bigint  NOT NULL,
    event_id          bigint  NOT NULL,
    interval_no_from  bigint  NOT NULL,
    interval_no_to    bigint  NOT NULL,
    interval_hash     bytea   NOT NULL CHECK (octet_length(interval_hash) = 32),
    energy_wh         bigint  NOT NULL,
    amount            bigint  NOT NULL,
    cause             text    NOT NULL,
    posted_at         timestamptz NOT NULL,
    PRIMARY KEY (account_id, posting_no),
    -- Two postings cannot start at the same interval, so ranges cannot overlap.
    UNIQUE (account_id, interval_no_from),
    CHECK (interval_no_to > interval_no_from)
);

-- One key, one effect, for ever: unpartitioned, unique per caller.
CREATE TABLE idempotency (
    caller      text        NOT NULL,
    key         text        NOT NULL CHECK (length(key) BETWEEN 1 AND 128),
    body_hash   bytea       NOT NULL CHECK (octet_length(body_hash) = 32),
    account_id  bigint      NOT NULL,
    property_id bigint      NOT NULL,
    answer      jsonb       NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (caller, key)
);

CREATE SEQUENCE event_id_seq;
