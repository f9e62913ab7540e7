-- Claims up to p_limit due jobs of one queue for p_lease_s seconds, in the order of run_at, then the oldest, and answers
-- them as they are now. A claim first returns the lapsed leases of its queue, so nobody else has to sweep. A job that
-- lapsed before is claimed alone, by a worker that is not busy with others: if it kills that worker, it takes no
-- neighbour along. A busy worker passes over it, and hears of it from its pulse (keep_name). With p_run_after, a
-- low-water mark, it looks at nothing but what is due from then on, and at no lease: so it does not walk over the index
-- entries of what is over, which an old transaction keeps alive. An event that is about to be sent is new to the agent,
-- whoever looked at it before.
create or replace function agent_vault.lease_jobs(
  p_queue text, p_worker text, p_limit int, p_lease_s double precision, p_fenced boolean, p_run_after timestamptz,
  p_busy boolean
) returns setof public.jobs
language plpgsql security definer
set search_path = ''
set enable_seqscan = off set jit = off set enable_sort = off set plan_cache_mode = force_generic_plan
set lock_timeout = '4s' as $$
declare
  v_rows tid[];
  v_lapses int[];
  v_learning_ids uuid[];
begin
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

  -- locked rows stay where they are, so that no index has to be asked again
  return query
  update public.jobs j set
    status = 'processing',
    locked_at = clock_timestamp(),
    locked_by = coalesce(p_worker, 'unknown'),
    lease_until = now() + make_interval(secs => p_lease_s),
    claims = j.claims + 1,
    attempts = j.attempts + 1,
    fenced = p_fenced,
    updated_at = now()
  where j.ctid = any(v_rows)
  returning j.*;
  -- a statement that began after the lock: it sees what was handled before
  update public.agent_learnings l set handled_at = null, handled_how = null
  where l.id = any(v_learning_ids) and l.handled_at is not null;
end
$$;
