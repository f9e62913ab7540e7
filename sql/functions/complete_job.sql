-- Ends a job as done. p_since_delivery_s is the seconds since the gateway accepted it, by the worker's monotonic
-- clock: the database owns wall-clock time. Saying it twice is quiet. Raises JB001 when the claim is over.
create or replace function agent_vault.complete_job(
  p_job_id uuid, p_claims int, p_outcome jsonb, p_since_delivery_s double precision
) returns void
language plpgsql security definer set search_path = '' set enable_seqscan = off set lock_timeout = '4s' as $$
begin
  update public.jobs j set
    status = 'done',
    lease_until = null,
    delivered_at = clock_timestamp() - make_interval(secs => p_since_delivery_s),
    finished_at = clock_timestamp(),
    outcome = p_outcome,
    last_error = null,
    updated_at = now()
  where j.id = p_job_id and j.claims = p_claims and j.status = 'processing' and j.lease_until >= now();
  -- the same claim may say it twice: a worker that never heard the first answer
  if not found and not exists (
    select from public.jobs j where j.id = p_job_id and j.claims = p_claims and j.status = 'done' and j.fenced
  ) then
    perform agent_vault.lease_lost(p_job_id, p_claims);
  end if;
end
$$;
