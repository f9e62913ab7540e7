-- Trigger: an insert of queued jobs wakes the daemons of each queue, once a statement, unless it says that it will do so
-- itself (agent_vault.quiet, see record_batch). The payload carries no work.
create or replace function agent_vault.notify_inserted() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if current_setting('agent_vault.quiet', true) = 'on' then
    return null;
  end if;
  perform pg_catalog.pg_notify('agent_vault_' || q.queue, '')
  from (select distinct i.queue from inserted i where i.status = 'queued') q;
  return null;
end
$$;
