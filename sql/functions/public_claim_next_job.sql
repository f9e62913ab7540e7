-- The claim that existing workers know, over PostgREST: one job of the default queue, for 15 minutes, since they
-- cannot renew. A thin call of the batch claim.
create or replace function public.claim_next_job(p_worker_id text) returns setof public.jobs
language plpgsql security definer set search_path = ''
set enable_seqscan = off set jit = off set lock_timeout = '4s' as $$
begin
  return query select j.* from agent_vault.lease_jobs('default', p_worker_id, 1, 900, false, null, false) j;
end
$$;
