-- Gives jobs back untried, and answers which: their attempt is taken back, since what stopped them was not their fault
-- (the gateway away, our shutdown). claims stays as it is: the next claim fences this one out. A job whose claim is
-- over is left out and fails no other.
create or replace function agent_vault.release_jobs(
  p_job_ids uuid[], p_claims int[], p_delay_s double precision, p_reason text,
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
    status = 'queued',
    run_at = now() + make_interval(secs => greatest(p_delay_s, 0)),
    lease_until = null,
    locked_by = null,
    attempts = greatest(j.attempts - 1, 0),
    last_error = p_reason,
    updated_at = now()
  where j.id = any(v_held)
  returning j.id;
end
$$;
