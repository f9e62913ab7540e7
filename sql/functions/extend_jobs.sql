-- Extends the leases of a worker by p_lease_s seconds from now and answers which it still holds. A lease that lapsed
-- while claims stood still is revived, whatever the lapse made of the job: a sleep or an outage of the database spends
-- nothing. Settling needs a lease that holds, so a worker that was silent for too long extends first. What awaits
-- handling has another number, so it is not extended.
create or replace function agent_vault.extend_jobs(
  p_worker text, p_job_ids uuid[], p_claims int[], p_lease_s double precision
) returns setof uuid
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set plan_cache_mode = force_generic_plan set lock_timeout = '4s' as $$
declare
  v_own constant uuid[] := agent_vault.own_jobs(p_job_ids);
begin
  perform agent_vault.check_daemon(split_part(p_worker, '/', 1));
  perform agent_vault.lock_jobs(v_own);
  return query
  update public.jobs j set
    status = 'processing',
    lease_until = now() + make_interval(secs => p_lease_s),
    lapses = case when j.status = 'processing' then j.lapses else greatest(j.lapses - 1, 0) end,
    outcome = case when j.status = 'failed' then null else j.outcome end,
    finished_at = null,
    updated_at = now()
  from unnest(p_job_ids, p_claims) as held (id, claims)
  where j.id = any(v_own) and j.id = held.id and j.claims = held.claims and j.locked_by = p_worker
    and (j.status in ('processing', 'queued') or j.status = 'failed' and j.outcome = '{"reason": "lapsed"}')
  returning j.id;
end
$$;
