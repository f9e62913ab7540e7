-- Gives a job back untried: its attempt is taken back, since what stopped it was not its fault (the gateway away, our
-- shutdown). claims stays as it is: the next claim fences this one out. Raises JB001 when the claim is over.
create or replace function agent_vault.release_job(
  p_job_id uuid, p_claims int, p_delay_s double precision, p_reason text
) returns void
language plpgsql security definer set search_path = '' set enable_seqscan = off set lock_timeout = '4s' as $$
begin
  update public.jobs j set
    status = 'queued',
    run_at = now() + make_interval(secs => greatest(p_delay_s, 0)),
    lease_until = null,
    locked_by = null,
    attempts = greatest(j.attempts - 1, 0),
    last_error = p_reason,
    updated_at = now()
  where j.id = p_job_id and j.claims = p_claims and j.status = 'processing' and j.lease_until >= now();
  if not found then
    perform agent_vault.lease_lost(p_job_id, p_claims);
  end if;
end
$$;
