-- What charges by the day remember of an account, beside what usage remembers: nothing here is moved
-- by a reading, so nothing of it has to be written while readings come in.

ALTER TABLE account_state
    -- What fixed fees and the taxes of daily charges still owe to exactness (core/dated.py). Usage
    -- carries its own fees and taxes in other denominators, and the two never wait for one another.
    ADD COLUMN daily_carry_fee   bigint  NOT NULL DEFAULT 0 CHECK (daily_carry_fee >= 0),
    ADD COLUMN daily_carry_tax   bigint  NOT NULL DEFAULT 0 CHECK (daily_carry_tax BETWEEN 0 AND 999999999),
    -- The last local day whose amounts were collected at a recharge, for those collected that way.
    ADD COLUMN collected_through integer NOT NULL DEFAULT 0 CHECK (collected_through >= 0);

-- The highest mean power of an account's local day for one demand charge, and what of that charge was
-- posted under that day: the month so far less what was posted before, true-ups included.
CREATE TABLE demand_day (
    account_id   bigint  NOT NULL,
    local_day    integer NOT NULL CHECK (local_day > 0),
    code         text    NOT NULL CHECK (code <> ''),
    property_id  bigint  NOT NULL,
    peak_w       bigint  NOT NULL CHECK (peak_w >= 0),
    posted       bigint  NOT NULL,
    PRIMARY KEY (account_id, local_day, code)
) WITH (fillfactor = 70);

-- A month or year of an account under a minimum or maximum (component 8 or 9): the energy charges of
-- its days that have the bound, and the difference that was posted after its last day.
CREATE TABLE bound_period (
    account_id   bigint   NOT NULL,
    component    smallint NOT NULL CHECK (component IN (8, 9)),
    first_day    integer  NOT NULL CHECK (first_day > 0),
    until_day    integer  NOT NULL,
    property_id  bigint   NOT NULL,
    energy       bigint   NOT NULL DEFAULT 0,
    posted       bigint   NOT NULL DEFAULT 0,
    is_settled   boolean  NOT NULL DEFAULT false,
    PRIMARY KEY (account_id, component, first_day, until_day),
    CHECK (first_day < until_day),
    CHECK (is_settled OR posted = 0)
) WITH (fillfactor = 50);

-- What is left of a debt is the sum of its transfers (counter-account 12), which are few among many.
CREATE INDEX transfer_by_debt ON transfer (account_id, code) WHERE counter_account = 12;
