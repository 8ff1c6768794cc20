-- A debt's share of a recharge only ever takes; what gives it back is a reversal. Without this an operator,
-- who may book shares, could book one that gives credit for which nobody paid.
ALTER TABLE transfer ADD CONSTRAINT transfer_recovery_takes CHECK (kind <> 11 OR amount < 0);
