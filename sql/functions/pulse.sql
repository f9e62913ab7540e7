-- What waits: the database's time, whether work waits in these queues, and the milliseconds until the next job is due
-- or the next lease lapses (null when nothing is under way, or not before the end of time). With p_run_after, a low-water
-- mark as for claim_jobs, only of the jobs that are due from then on.
create or replace function agent_vault.pulse(p_queues text[], p_run_after timestamptz default null)
returns table (database_time timestamptz, work_waits boolean, next_due_ms double precision)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set enable_sort = off set plan_cache_mode = force_generic_plan
set lock_timeout = '2s' as $$
declare
  v_due timestamptz;
begin
  p_queues := agent_vault.confine_queues(p_queues);
  select min(least(
    (select j.run_at from public.jobs j
     where j.status = 'queued' and j.queue = q.queue and j.run_at >= coalesce(p_run_after, '-infinity')
     order by j.run_at limit 1),
    (select j.lease_until from public.jobs j
     where p_run_after is null and j.status = 'processing' and j.queue = q.queue
     order by j.lease_until limit 1)))
  into v_due from unnest(p_queues) as q (queue);
  return query select clock_timestamp(), coalesce(v_due <= clock_timestamp(), false),
    case when v_due <= clock_timestamp() then 0
      -- before 17 an infinite time cannot be subtracted from
      when isfinite(v_due) then (extract(epoch from v_due - clock_timestamp()) * 1000)::double precision end;
end
$$;
