-- The claim that existing workers know, over PostgREST: one job of the default queue, for 15 minutes, since they
-- cannot renew. A thin call of the batch claim, which waits for the disk and need not be shown when it is settled: these
-- workers show nothing.
create or replace function public.claim_next_job(p_worker_id text) returns setof public.jobs
language plpgsql security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '4s' as $$
declare
  v_commit constant text := current_setting('synchronous_commit');
  v_id constant uuid := (select c.id from agent_vault.claim_jobs('default', p_worker_id, 1, 900) c);
begin
  perform set_config('synchronous_commit', v_commit, true);
  return query update public.jobs j set fenced = false where j.id = v_id returning j.*;
end
$$;
