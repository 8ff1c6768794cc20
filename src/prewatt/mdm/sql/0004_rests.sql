-- What each charge leaves of its exact amount, in the component's denominator: charge × denominator +
-- rest is exact, so whatever is taken back or rated anew later is taken back exactly. An account's
-- carry is the sum of the rests of all its rows.
ALTER TABLE interval
    ADD COLUMN rest_energy  integer NOT NULL DEFAULT 0,
    ADD COLUMN rest_fee     integer NOT NULL DEFAULT 0,
    ADD COLUMN rest_tax     integer NOT NULL DEFAULT 0,
    ADD COLUMN rest_subsidy integer NOT NULL DEFAULT 0;
