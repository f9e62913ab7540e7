-- Trigger: a job that becomes due, or due sooner, wakes the daemons of its queue (its when clause does the choosing).
create or replace function agent_vault.notify_updated() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  perform pg_catalog.pg_notify('agent_vault_' || new.queue, '');
  return null;
end
$$;
