-- The triggers of public.jobs; they come after the functions that they call.

create or replace trigger agent_vault_inserted after insert on public.jobs
referencing new table as inserted
for each statement execute function agent_vault.notify_inserted();

create or replace trigger agent_vault_updated after update on public.jobs
for each row
when (new.status = 'queued'
  and (old.status <> 'queued' or new.run_at < old.run_at or new.queue <> old.queue))
execute function agent_vault.notify_updated();

create or replace trigger agent_vault_requeued before update on public.jobs
for each row
when (new.status = 'queued' and old.status <> 'queued'
  and (new.run_at < now() or old.status in ('done', 'failed') or new.awaits_handling))
execute function agent_vault.keep_claimable();

create or replace trigger agent_vault_leased before insert or update on public.jobs
for each row
when (new.status = 'processing' and new.lease_until is null)
execute function agent_vault.keep_claimable();

create or replace trigger agent_vault_finished before insert or update on public.jobs
for each row
when (new.status in ('done', 'failed') and new.finished_at is null)
execute function agent_vault.keep_claimable();
