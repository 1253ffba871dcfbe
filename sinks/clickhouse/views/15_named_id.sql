-- Internal. Digests of the kind and id of what installations and groups name: by which they may be linked to accounts.
CREATE OR REPLACE VIEW {database}.named_id
(
    key UInt64
)
AS
SELECT DISTINCT key
FROM {database}.ping
ARRAY JOIN
    if(
        population = 'self_managed',
        [cityHash64('subscription', license_subscription_id), cityHash64('license', license_sha256)],
        [cityHash64('namespace', scope_id)]
    ) AS key
WHERE population IN ('self_managed', 'group')
