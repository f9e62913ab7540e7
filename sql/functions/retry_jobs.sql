-- Puts jobs back to be tried again p_delay_s seconds from now, their attempt counted; failed where none is left.
-- Answers the status that each got. A job whose claim is over is left out and fails no other.
create or replace function agent_vault.retry_jobs(
  p_job_ids uuid[], p_claims int[], p_delay_s double precision, p_error text, p_outcome jsonb,
  p_claimed_at timestamptz[] default null
) returns table (id uuid, status text)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set plan_cache_mode = force_generic_plan set lock_timeout = '4s' as $$
#variable_conflict use_column
declare
  v_held constant uuid[] := agent_vault.hold_jobs(p_job_ids, p_claims, p_claimed_at);
begin
  return query
  update public.jobs j set
    status = case when j.attempts < j.max_attempts then 'queued' else 'failed' end,
    run_at = now() + make_interval(secs => greatest(p_delay_s, 0)),
    lease_until = null,
    locked_by = null,
    finished_at = case when j.attempts < j.max_attempts then null else clock_timestamp() end,
    outcome = p_outcome,
    last_error = p_error,
    updated_at = now()
  where j.id = any(v_held)
  returning j.id, j.status;
end
$$;
