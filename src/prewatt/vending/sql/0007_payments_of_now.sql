-- A payment came by a way that there is, at a time that every reader has a date for; that it has come by
-- now is the policies' to see to (walls.py).

ALTER TABLE payment
    ADD CONSTRAINT payment_has_dates CHECK (
        paid_at BETWEEN '1900-01-01 00:00:00+00' AND '9999-01-01 00:00:00+00'
        AND accepted_at BETWEEN '1900-01-01 00:00:00+00' AND '9999-01-01 00:00:00+00') NOT VALID,
    ADD CONSTRAINT payment_came_by_a_way CHECK (way IN ('cash', 'online', 'transfer')) NOT VALID;
ALTER TABLE payment
    VALIDATE CONSTRAINT payment_has_dates,
    VALIDATE CONSTRAINT payment_came_by_a_way;
