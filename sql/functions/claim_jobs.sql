-- Claims up to p_limit due jobs of one queue for p_lease_s seconds, in the order of run_at, then the oldest, and answers
-- what the daemon needs of each and nothing else, so that no foreign payload can break the reading (sent_before is for
-- daemons of earlier releases). After p_not_after it claims nothing: a call that was held up on its way, and that its
-- worker has given up, must not take jobs for nobody. A run_at of -infinity, which few programs can read, is answered as
-- the beginning of 1970.
--
-- A claim first returns the lapsed leases of its queue, so nobody else has to sweep. A job that lapsed before is claimed
-- alone, by a worker that is not busy (p_busy) with others: if it kills that worker, it takes no neighbour along. A busy
-- worker passes over it, and hears of it from its pulse (keep_name). With p_run_after, a low-water mark, it looks at
-- nothing but what is due from then on, and at no lease: so it does not walk over the index entries of what is over, which
-- an old transaction keeps alive. An event that is about to be sent is new to the agent, whoever looked at it before.
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
  claimed_at timestamptz, sent_at timestamptz
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set enable_sort = off set plan_cache_mode = force_generic_plan
set lock_timeout = '4s' as $$
#variable_conflict use_column
declare
  v_rows tid[];
  v_lapses int[];
  v_learning_ids uuid[];
begin
  if agent_vault.session_queues() is not null then
    perform agent_vault.check_daemon(split_part(p_worker, '/', 1));
    perform agent_vault.confine_queues(array[p_queue]);
  end if;
  if clock_timestamp() > p_not_after then
    return;
  end if;
  if p_run_after is null then
    perform agent_vault.return_lapsed(p_queue);
  end if;
  -- without a sort: only jobs_queued has this order, so that no more is read than asked for, whatever the planner thinks
  select array_agg(d.ctid), array_agg(d.lapses), array_agg(d.learning_id) into v_rows, v_lapses, v_learning_ids
  from (
    select j.ctid, j.lapses, j.learning_id from public.jobs j
    where j.status = 'queued' and j.queue = p_queue and j.run_at <= now()
      and j.run_at >= coalesce(p_run_after, '-infinity') and (j.lapses = 0 or not p_busy)
    order by j.run_at, j.created_at limit p_limit
    for update skip locked
  ) d;
  if v_rows is null then
    return;
  elsif v_lapses[1] > 0 then
    v_rows := v_rows[:1];
    v_learning_ids := v_learning_ids[:1];
  elsif 0 < any(v_lapses) then
    select array_agg(d.place), array_agg(d.learning_id) into v_rows, v_learning_ids
    from unnest(v_rows, v_lapses, v_learning_ids) as d (place, lapses, learning_id) where d.lapses = 0;
  end if;

  perform set_config('synchronous_commit', 'off', true);
  -- locked rows stay where they are, so that no index has to be asked again; and a statement that began after the lock
  -- sees what was handled before
  return query
  with renewed as (
    update public.agent_learnings l set handled_at = null, handled_how = null
    where l.id = any(v_learning_ids) and l.handled_at is not null
  ), claimed as (
    update public.jobs j set
      status = 'processing',
      locked_at = clock_timestamp(),
      locked_by = coalesce(p_worker, 'unknown'),
      lease_until = now() + make_interval(secs => p_lease_s),
      claims = j.claims + 1,
      attempts = j.attempts + 1,
      fenced = true,
      updated_at = now()
    where j.ctid = any(v_rows)
    returning j.id, j.type, j.queue, j.payload ->> 'text' as wake_text, j.payload ->> 'trigger_name' as trigger_name,
      j.learning_id, j.attempts, j.max_attempts, j.claims, j.run_at, j.lapses, j.delivered_at,
      j.locked_at, j.created_at
  )
  select c.id, c.type, c.queue, c.wake_text, c.trigger_name, c.learning_id, c.attempts, c.max_attempts, c.claims,
    greatest(c.run_at, 'epoch'), c.lapses, c.delivered_at is not null, c.locked_at, c.delivered_at
  from claimed c order by c.run_at, c.created_at;
end
$$;
