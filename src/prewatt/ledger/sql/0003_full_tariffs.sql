-- What full tariffs remember of an account: subsidies that lower what is charged, how far it is
-- up the steps, what is left of its allowance, and up to which day its days are charged.

ALTER TABLE account_state DROP COLUMN available;
ALTER TABLE account_state
    -- Negative: what somebody else pays of the charges not yet posted.
    ADD COLUMN accrued_subsidy   bigint NOT NULL DEFAULT 0,
    ADD COLUMN carry_subsidy     bigint NOT NULL DEFAULT 0 CHECK (carry_subsidy >= 0),
    -- The window that the step counts belong to (its first instant in µs, or the number of the
    -- purchase), and what was used in it: one count, or one for each band.
    ADD COLUMN step_window       bigint NOT NULL DEFAULT 0,
    ADD COLUMN step_wh           bigint[] NOT NULL DEFAULT '{}',
    ADD COLUMN allowance_window  bigint NOT NULL DEFAULT 0,
    ADD COLUMN allowance_wh      bigint NOT NULL DEFAULT 0 CHECK (allowance_wh >= 0),
    -- Counts recharges, for steps that begin again with each.
    ADD COLUMN purchase_no       bigint NOT NULL DEFAULT 0 CHECK (purchase_no >= 0),
    -- The last local day (days since 1970-01-01) whose amounts per day are posted; 0 before any.
    ADD COLUMN daily_through     integer NOT NULL DEFAULT 0 CHECK (daily_through >= 0);
ALTER TABLE account_state
    ADD COLUMN available bigint GENERATED ALWAYS AS (posted - accrued_energy - accrued_standing
        - accrued_tax - accrued_fee - accrued_demand - accrued_subsidy) STORED;

ALTER TABLE transfer
    -- The step a usage was priced at, and the tariff's own code of a tax, fee or charge.
    ADD COLUMN step smallint NOT NULL DEFAULT 0 CHECK (step >= 0),
    ADD COLUMN code text     NOT NULL DEFAULT '';
