-- Claims up to p_limit due jobs of one queue for p_lease_s seconds, in the order of run_at, then the oldest.
-- Every claim first returns the lapsed leases of its queue, so nobody else has to sweep. A job that lapsed before is
-- claimed alone, by a worker that is not busy with others: if it kills that worker, it takes no neighbour along. A busy
-- worker passes over it, and hears of it from its pulse (keep_name). With p_run_after, a low-water mark, the scan
-- starts there and does not walk over the index entries of finished jobs that an old transaction keeps alive. An event
-- that is about to be sent is new to the agent, whoever looked at it before.
create or replace function agent_vault.lease_jobs(
  p_queue text, p_worker text, p_limit int, p_lease_s double precision, p_fenced boolean, p_run_after timestamptz,
  p_busy boolean
) returns uuid[]
language plpgsql security definer set search_path = ''
  set enable_seqscan = off set jit = off set lock_timeout = '4s' as $$
declare
  v_ids uuid[];
begin
  perform agent_vault.return_lapsed(p_queue);
  with due as materialized (
    select j.id, j.lapses > 0 as lapsed,
      row_number() over (order by j.run_at, j.created_at) as place
    from (
      select c.id, c.lapses, c.run_at, c.created_at from public.jobs c
      where c.status = 'queued' and c.queue = p_queue and c.run_at <= now()
        and c.run_at >= coalesce(p_run_after, '-infinity') and (c.lapses = 0 or not p_busy)
      order by c.run_at, c.created_at limit p_limit
      for update skip locked
    ) j
  ), first as (
    select d.lapsed from due d where d.place = 1
  )
  select coalesce(array_agg(d.id), '{}') into v_ids from due d, first f
  where case when f.lapsed then d.place = 1 else not d.lapsed end;

  update public.jobs j set
    status = 'processing',
    locked_at = clock_timestamp(),
    locked_by = coalesce(p_worker, 'unknown'),
    lease_until = now() + make_interval(secs => p_lease_s),
    claims = j.claims + 1,
    attempts = j.attempts + 1,
    fenced = p_fenced,
    updated_at = now()
  where j.id = any(v_ids);

  update public.agent_learnings l set handled_at = null, handled_how = null
  where l.id = any(array(select j.learning_id from public.jobs j where j.id = any(v_ids))) and l.handled_at is not null;
  return v_ids;
end
$$;
