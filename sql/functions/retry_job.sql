-- Puts a job back to be tried again p_delay_s seconds from now, its attempt counted; failed when none is left.
-- Answers the status that it got. Raises JB001 when the claim is over.
create or replace function agent_vault.retry_job(
  p_job_id uuid, p_claims int, p_delay_s double precision, p_error text, p_outcome jsonb
) returns text
language plpgsql security definer set search_path = '' set enable_seqscan = off set lock_timeout = '4s' as $$
declare
  v_status text;
begin
  update public.jobs j set
    status = case when j.attempts < j.max_attempts then 'queued' else 'failed' end,
    run_at = now() + make_interval(secs => greatest(p_delay_s, 0)),
    lease_until = null,
    locked_by = null,
    finished_at = case when j.attempts < j.max_attempts then null else clock_timestamp() end,
    outcome = p_outcome,
    last_error = p_error,
    updated_at = now()
  where j.id = p_job_id and j.claims = p_claims and j.status = 'processing' and j.lease_until >= now()
  returning j.status into v_status;
  if not found then
    perform agent_vault.lease_lost(p_job_id, p_claims);
  end if;
  return v_status;
end
$$;
