-- A worker whose schema is current (`pingstream migrate`, by the owner), and `pingstream doctor`: it writes rows, and changes no table.
-- Give it to a user:  CREATE USER pingstream IDENTIFIED WITH sha256_password BY '…'; GRANT pingstream_worker TO pingstream;
-- Where DATABASE is another than pingstream, put its name in. To be run by an administrator; again does no harm.

CREATE ROLE IF NOT EXISTS pingstream_worker;

GRANT SHOW TABLES, SELECT, INSERT ON pingstream.* TO pingstream_worker;
GRANT SELECT ON system.disks TO pingstream_worker;
