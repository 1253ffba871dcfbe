-- Internal. The names of parents: whoever is the parent of another account on any day.
CREATE OR REPLACE VIEW {database}.named_parent
(
    parent String
)
AS
SELECT parent_ AS parent
-- a row that another version has replaced may name more: an account under which there is no other is a family of one
FROM (SELECT groupUniqArrayArray(family_parent) AS parents FROM {database}.billing_account)
ARRAY JOIN parents AS parent_
WHERE parent_ != ''
