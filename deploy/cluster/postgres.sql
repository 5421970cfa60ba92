-- The catalog of a cluster: a database, who writes it, who reads it. Once, as a superuser of PostgreSQL 14 or newer:
--   psql --set ON_ERROR_STOP=1 --file postgres.sql
-- and then each one's password, which psql asks for: \password runlake_ingest, \password runlake_query
-- (or sslcert, or Kerberos: what libpq can, RunLake can).

CREATE ROLE runlake_ingest LOGIN CONNECTION LIMIT 100;
CREATE ROLE runlake_query LOGIN CONNECTION LIMIT 400;
-- It has the right to read only; and what it asks is read-only even if somebody gives it more.
ALTER ROLE runlake_query SET default_transaction_read_only = on;

-- In UTF-8, whatever the server's own default is.
CREATE DATABASE runlake OWNER runlake_ingest ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE runlake FROM PUBLIC;
GRANT CONNECT ON DATABASE runlake TO runlake_query;

\connect runlake
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO runlake_ingest;
GRANT USAGE ON SCHEMA public TO runlake_query;
-- The workers make the tables.
ALTER DEFAULT PRIVILEGES FOR ROLE runlake_ingest IN SCHEMA public GRANT SELECT ON TABLES TO runlake_query;
