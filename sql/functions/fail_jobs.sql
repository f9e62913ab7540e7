-- Ends jobs as failed, dead letters, for a reason that no retry mends, and answers which are. A job whose claim is over
-- is left out and fails no other.
create or replace function agent_vault.fail_jobs(
  p_job_ids uuid[], p_claims int[], p_error text, p_outcome jsonb
) returns setof uuid
language plpgsql security definer set search_path = '' set enable_seqscan = off set lock_timeout = '4s' as $$
begin
  perform agent_vault.lock_jobs(p_job_ids);
  return query
  update public.jobs j set
    status = 'failed',
    lease_until = null,
    finished_at = clock_timestamp(),
    outcome = p_outcome,
    last_error = p_error,
    updated_at = now()
  from unnest(p_job_ids, p_claims) as held (id, claims)
  where j.id = any(p_job_ids) and j.id = held.id and j.claims = held.claims
    and j.status = 'processing' and j.lease_until >= now()
  returning j.id;
end
$$;
