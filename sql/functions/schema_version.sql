-- The number of the newest migration: both programs look at it when they start.
create or replace function agent_vault.schema_version() returns int
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select max(version) from agent_vault.migrations
$$;
