-- What keeps the queue as fast with millions of rows as with none.

-- lease_jobs answers the jobs themselves; pulse gains an argument that its callers may leave out
drop function if exists agent_vault.lease_jobs(text, text, int, double precision, boolean, timestamptz, boolean);
drop function if exists agent_vault.pulse(text[]);

-- two triggers do what these three did
drop trigger if exists agent_vault_requeued on public.jobs;
drop trigger if exists agent_vault_leased on public.jobs;
drop trigger if exists agent_vault_finished on public.jobs;

-- each job leaves two dead rows, whatever its table's size: by the server's default a table of millions would be cleaned
-- after a million of them, and analyzed long after what waits and what is done changed places
alter table public.jobs set (
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_analyze_scale_factor = 0.02
);
