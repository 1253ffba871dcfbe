-- Internal. Digests of the kind and id of ids that more than one subscription has carried.
CREATE OR REPLACE VIEW {database}.contended_id AS
SELECT key
FROM
(
    SELECT arrayJoin(arrayMap((kind, id) -> cityHash64(kind, id), link_kind, link_id)) AS key
    FROM {database}.billing_account FINAL
)
GROUP BY key
HAVING count() > 1
