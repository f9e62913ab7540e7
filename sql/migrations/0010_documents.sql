-- An event's document is compressed with lz4, where the server was built with it: its own pglz, which most servers still
-- choose, is a seventh of what an event costs Postgres. What is there already stays as it is.
do $$
begin
  if exists (select from pg_settings where name = 'default_toast_compression' and 'lz4' = any(enumvals)) then
    alter table public.agent_learnings alter column metadata set compression lz4;
  end if;
end
$$;

-- account_document does what it did for the events that it was called for
drop function if exists agent_vault.read_json(text, bytea);
