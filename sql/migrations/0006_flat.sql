-- What keeps the queue as fast with millions of rows as with none.

drop function if exists agent_vault.lease_jobs(text, text, int, double precision, boolean, timestamptz, boolean);
drop function if exists agent_vault.pulse(text[]);

-- two triggers do what these three did
drop trigger if exists agent_vault_requeued on public.jobs;
drop trigger if exists agent_vault_leased on public.jobs;
drop trigger if exists agent_vault_finished on public.jobs;
