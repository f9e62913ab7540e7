-- The triggers of public.jobs; they come after the functions that they call. Each statement reads every when clause
-- anew, so these are few and short.

create or replace trigger agent_vault_inserted after insert on public.jobs
referencing new table as inserted
for each statement execute function agent_vault.notify_inserted();

create or replace trigger agent_vault_updated after update on public.jobs
for each row
when (new.queue <> old.queue or new.status = 'queued' and (old.status <> 'queued' or new.run_at < old.run_at))
execute function agent_vault.notify_updated();

create or replace trigger agent_vault_entered before insert on public.jobs
for each row
when (new.status <> 'queued')
execute function agent_vault.keep_claimable();

create or replace trigger agent_vault_moved before update on public.jobs
for each row
when (case new.status when 'processing' then new.lease_until is null when 'queued' then old.status <> 'queued'
  else new.finished_at is null end)
execute function agent_vault.keep_claimable();
