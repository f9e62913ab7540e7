-- Ends a queued job, or one under way, as failed, because a person said so. claims rises, so that the worker that has
-- it is fenced out. False when there is nothing to cancel: no such job, or it is finished.
create or replace function agent_vault.cancel_job(p_job_id uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '8s' as $$
begin
  update public.jobs j set
    status = 'failed',
    awaits_handling = false,
    claims = j.claims + 1,
    lease_until = null,
    finished_at = clock_timestamp(),
    outcome = '{"reason": "cancelled"}',
    last_error = 'cancelled by a person',
    updated_at = now()
  where j.id = p_job_id and j.status in ('queued', 'processing');
  return found;
end
$$;
