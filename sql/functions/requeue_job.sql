-- A person's second chance for a failed job: queued now, with all its attempts and no lapse, and no word of having been
-- cancelled. False when it is not failed.
create or replace function agent_vault.requeue_job(p_job_id uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '8s' as $$
begin
  update public.jobs j set
    status = 'queued',
    run_at = now(),
    locked_by = null,
    attempts = 0,
    lapses = 0,
    finished_at = null,
    outcome = null,
    last_error = case when j.outcome @> '{"reason": "cancelled"}' then null else j.last_error end,
    updated_at = now()
  where j.id = p_job_id and j.status = 'failed';
  return found;
end
$$;
