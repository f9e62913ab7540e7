-- The queues that no daemon serves which lives, and in which a job has been due for p_after_s seconds or longer: how many
-- jobs are due (none beyond 1,000 is counted), and for how many seconds the oldest has been. It steps from queue to queue,
-- and so reads no more of a queue than it counts.
create or replace function agent_vault.find_unserved(p_after_s double precision)
returns table (queue text, jobs bigint, oldest_s double precision)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off set enable_sort = off as $$
#variable_conflict use_column
begin
  return query
  with recursive waiting as (
    (select j.queue from public.jobs j where j.status = 'queued' order by j.queue limit 1)
    union all
    select (select j.queue from public.jobs j where j.status = 'queued' and j.queue > w.queue order by j.queue limit 1)
    from waiting w where w.queue is not null
  )
  select w.queue, due.jobs, extract(epoch from now() - due.since)::double precision
  from waiting w, lateral (
    select count(*) as jobs, min(greatest(j.run_at, j.created_at)) as since
    from (
      select o.run_at, o.created_at from public.jobs o
      where o.status = 'queued' and o.queue = w.queue and o.run_at <= now()
      order by o.run_at, o.created_at limit 1000) j
  ) due
  where isfinite(due.since) and due.since <= now() - make_interval(secs => p_after_s)
    and not exists (
      select from agent_vault.daemons d
      where w.queue = any(d.queues) and d.seen_at > clock_timestamp() - make_interval(secs => d.silence_s))
  order by w.queue;
end
$$;
