-- Trigger: a job that becomes due, or due sooner, wakes the daemons of its queue (its when clause does the choosing). One
-- that changes its queue, in whatever state, takes its event along, else its agent could neither list nor read it.
create or replace function agent_vault.notify_updated() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if new.queue <> old.queue then
    update public.agent_learnings l set queue = new.queue where l.id = new.learning_id;
  end if;
  if new.status = 'queued' then
    perform pg_catalog.pg_notify('agent_vault_' || new.queue, '');
  end if;
  return null;
end
$$;
