-- Internal. The kept sums, if they are of the accounts as they are now: one row or none.
CREATE OR REPLACE VIEW {database}.current_sums AS
SELECT held_steps, growth_steps, movement_steps, tier_steps, retention_steps
FROM {database}.billing_sums FINAL
WHERE accounts = (SELECT accounts FROM {database}.account_digest)
