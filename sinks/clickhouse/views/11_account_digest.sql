-- Internal. What stands in billing_account, as a number: rows of an account that are written anew have a newer version, and a
-- worker writes all rows of a home. So what has the same digest gives the same sums, by the same views. No row without accounts.
CREATE OR REPLACE VIEW {database}.account_digest
(
    accounts UInt64
)
AS
SELECT groupBitXor(cityHash64(home, row_version, number)) AS accounts
FROM
(
    SELECT home, row_version, count() AS number
    FROM {database}.billing_account
    GROUP BY home, row_version
    ORDER BY row_version DESC
    LIMIT 1 BY home
    UNION ALL
    SELECT 0, cityHash64(digest), 0
    FROM {database}.schema_views FINAL
)
HAVING max(number) > 0
