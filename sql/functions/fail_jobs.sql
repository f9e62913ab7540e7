-- Ends jobs as failed, dead letters, for a reason that no retry mends, and answers which are. A job whose claim is over
-- is left out and fails no other.
create or replace function agent_vault.fail_jobs(
  p_job_ids uuid[], p_claims int[], p_error text, p_outcome jsonb,
  p_claimed_at timestamptz[] default null
) returns setof uuid
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set plan_cache_mode = force_generic_plan set lock_timeout = '4s' as $$
declare
  v_held constant uuid[] := agent_vault.hold_jobs(p_job_ids, p_claims, p_claimed_at);
begin
  return query
  update public.jobs j set
    status = 'failed',
    lease_until = null,
    finished_at = clock_timestamp(),
    outcome = p_outcome,
    last_error = p_error,
    updated_at = now()
  where j.id = any(v_held)
  returning j.id;
end
$$;
