-- Internal. The names of parents: whoever is the parent of another account on any day.
CREATE OR REPLACE VIEW {database}.named_parent AS
SELECT DISTINCT parent_ AS parent
FROM {database}.billing_account FINAL
ARRAY JOIN family_parent AS parent_
WHERE parent_ != ''
