-- The wakes that a daemon of this name delivered in the last p_within_s seconds, in any of its runs: each once, with the
-- seconds since. They are known by what the outcomes of its jobs say of session and wake. Whatever state such a job is
-- in now, an index leads to it by a time that is no earlier than its delivery.
create or replace function agent_vault.recent_wakes(p_daemon text, p_within_s double precision)
returns table (session text, wake text, age_s double precision)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $$
declare
  v_since constant timestamptz := now() - make_interval(secs => p_within_s);
begin
  perform agent_vault.check_daemon(p_daemon);
  return query
  with recursive queue as (
    select min(j.queue) as name from public.jobs j where j.status = 'queued'
    union all
    select (select min(j.queue) from public.jobs j where j.status = 'queued' and j.queue > q.name)
    from queue q where q.name is not null
  ), sent as (
    select j.locked_by, j.outcome, j.delivered_at from public.jobs j
    where j.status in ('done', 'failed') and j.finished_at >= v_since
    union all
    select j.locked_by, j.outcome, j.delivered_at from public.jobs j where j.status = 'processing'
    union all
    select j.locked_by, j.outcome, j.delivered_at from queue q, public.jobs j
    where j.status = 'queued' and j.queue = q.name and j.run_at >= v_since
  )
  select s.outcome ->> 'session', s.outcome ->> 'wake',
    greatest(extract(epoch from clock_timestamp() - max(s.delivered_at)), 0)::double precision
  from sent s
  where s.delivered_at >= v_since and s.outcome ->> 'wake' is not null and split_part(s.locked_by, '/', 1) = p_daemon
  group by 1, 2;
end
$$;
