-- Every function names pg_temp, last: left out, it comes first, and a caller's own type `text` would then run with the
-- owner's rights (https://www.postgresql.org/docs/current/sql-createfunction.html#SQL-CREATEFUNCTION-SECURITY). Programs
-- that need this version refuse a schema that is open in that way.

-- it answers also when a job was sent before
drop function if exists agent_vault.claim_jobs(text, text, int, double precision, timestamptz, boolean, timestamptz);
