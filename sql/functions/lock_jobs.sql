-- Locks jobs in the order of their ids, so that two who want some of the same wait for each other and do not deadlock.
create or replace function agent_vault.lock_jobs(p_job_ids uuid[]) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off set plan_cache_mode = force_generic_plan as $$
begin
  perform from public.jobs j where j.id = any(p_job_ids) order by j.id for no key update;
end
$$;
