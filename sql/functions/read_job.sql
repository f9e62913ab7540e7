-- A job as a person or a log tool reads it. Its payload, which may hold anybody's words, only when asked for.
create or replace function agent_vault.read_job(p_job public.jobs, p_with_payload boolean) returns jsonb
language sql stable security definer set search_path = pg_catalog, pg_temp set timezone = 'UTC' as $$
  select jsonb_build_object(
    'id', p_job.id, 'type', p_job.type, 'queue', p_job.queue, 'status', p_job.status, 'replay', p_job.replay,
    'learning_id', p_job.learning_id, 'attempts', p_job.attempts, 'max_attempts', p_job.max_attempts,
    'claims', p_job.claims, 'lapses', p_job.lapses, 'created_at', p_job.created_at, 'updated_at', p_job.updated_at,
    'run_at', p_job.run_at, 'locked_at', p_job.locked_at, 'locked_by', p_job.locked_by,
    'lease_until', p_job.lease_until, 'awaits_handling', p_job.awaits_handling, 'delivered_at', p_job.delivered_at,
    'finished_at', p_job.finished_at, 'outcome', p_job.outcome, 'last_error', p_job.last_error)
    || case when p_with_payload then jsonb_build_object('payload', p_job.payload) else '{}' end
$$;
