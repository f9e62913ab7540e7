-- Gives back, untried, the jobs that a worker has under a lease and does not know of: the answer to its claim was lost.
-- p_job_ids are those that it knows of. What awaits handling is the agent's. Answers which it gave back.
create or replace function agent_vault.release_unheld(p_worker text, p_job_ids uuid[]) returns setof uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '4s' as $$
begin
  perform agent_vault.check_daemon(split_part(p_worker, '/', 1));
  return query
  update public.jobs j set
    status = 'queued',
    run_at = now(),
    lease_until = null,
    locked_by = null,
    attempts = greatest(j.attempts - 1, 0),
    last_error = 'released: the answer to its claim was lost',
    updated_at = now()
  where j.status = 'processing' and j.locked_by = p_worker and j.id <> all(p_job_ids)
    and not j.awaits_handling
  returning j.id;
end
$$;
