-- Ends a job as failed, the dead letter, for a reason that no retry mends. Raises JB001 when the claim is over.
create or replace function agent_vault.fail_job(
  p_job_id uuid, p_claims int, p_error text, p_outcome jsonb
) returns void
language plpgsql security definer set search_path = '' set enable_seqscan = off set lock_timeout = '4s' as $$
begin
  update public.jobs j set
    status = 'failed',
    lease_until = null,
    finished_at = clock_timestamp(),
    outcome = p_outcome,
    last_error = p_error,
    updated_at = now()
  where j.id = p_job_id and j.claims = p_claims and j.status = 'processing' and j.lease_until >= now();
  if not found then
    perform agent_vault.lease_lost(p_job_id, p_claims);
  end if;
end
$$;
