-- The daemon's claim: what it needs of each job and nothing else, so that no foreign payload can break the reading.
-- p_busy says that the worker holds jobs already; see lease_jobs. After p_not_after it claims nothing: a call that was
-- held up on its way, and that its worker has given up, must not take jobs for nobody. A run_at of -infinity, which few
-- programs can read, is answered as the beginning of 1970.
--
-- What it claims does not wait for the disk: a crash of the server may forget the claim, and then the job is claimed
-- again, under the same number at another time (claimed_at), which settling must show. Settling waits, and with it comes
-- to the disk what was claimed before.
create or replace function agent_vault.claim_jobs(
  p_queue text, p_worker text, p_limit int, p_lease_s double precision, p_run_after timestamptz default null,
  p_busy boolean default false, p_not_after timestamptz default null
) returns table (
  id uuid, type text, queue text, wake_text text, trigger_name text, learning_id uuid,
  attempts int, max_attempts int, claims int, run_at timestamptz, lapses int, sent_before boolean,
  claimed_at timestamptz
)
language plpgsql security definer
set search_path = ''
set enable_seqscan = off set jit = off set plan_cache_mode = force_generic_plan set lock_timeout = '4s' as $$
#variable_conflict use_column
begin
  perform agent_vault.check_daemon(split_part(p_worker, '/', 1));
  perform agent_vault.confine_queues(array[p_queue]);
  if clock_timestamp() > p_not_after then
    return;
  end if;
  return query
  select j.id, j.type, j.queue, j.payload ->> 'text', j.payload ->> 'trigger_name', j.learning_id,
    j.attempts, j.max_attempts, j.claims, greatest(j.run_at, 'epoch'), j.lapses, j.delivered_at is not null,
    j.locked_at
  from agent_vault.lease_jobs(p_queue, p_worker, p_limit, p_lease_s, true, p_run_after, p_busy) j
  order by j.run_at, j.created_at;
  if found then
    perform set_config('synchronous_commit', 'off', true);
  end if;
end
$$;
