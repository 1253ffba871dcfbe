-- Who makes the schema and brings it up to date: `pingstream migrate`. Views show with its rights what others may not read
-- themselves, so keep the user.
-- Give it to a user:  CREATE USER pingstream_owner IDENTIFIED WITH sha256_password BY '…'; GRANT pingstream_owner TO pingstream_owner;
-- Where DATABASE is another than pingstream, put its name in. To be run by an administrator; again does no harm.

CREATE ROLE IF NOT EXISTS pingstream_owner;
ALTER ROLE pingstream_owner SETTINGS default_normal_view_sql_security = 'DEFINER';

GRANT CREATE DATABASE ON pingstream.* TO pingstream_owner;
GRANT SHOW TABLES, SELECT, INSERT ON pingstream.* TO pingstream_owner;
GRANT CREATE TABLE, ALTER TABLE, DROP TABLE ON pingstream.* TO pingstream_owner;
GRANT CREATE VIEW, DROP VIEW ON pingstream.* TO pingstream_owner;
