-- Jobs of one status for a person to read: the latest finished first, what is queued or under way by queue and then by
-- what comes next. p_since and p_until are about the end of a finished job and the beginning of any other. Looks through
-- no more than 10,000 jobs, and where none is left out at no more than it lists. Each branch but that of p_status is gone
-- when the query is planned.
create or replace function agent_vault.list_jobs(
  p_status text, p_type text, p_queue text, p_since timestamptz, p_until timestamptz, p_error text, p_limit int
) returns setof jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set enable_bitmapscan = off set plan_cache_mode = force_custom_plan as $$
declare
  v_type text := agent_vault.like_pattern(p_type);
  v_finds_any constant boolean := v_type is null and p_error is null;
  v_open constant int := case when v_finds_any and p_since is null and p_until is null then p_limit else 10000 end;
  v_over constant int := case when v_finds_any and p_queue is null then p_limit else 10000 end;
begin
  return query
  with looked_at as (
    (select j from public.jobs j
     where p_status = 'queued' and j.status = 'queued' and (p_queue is null or j.queue = p_queue)
     order by j.queue, j.run_at, j.created_at limit v_open)
    union all
    (select j from public.jobs j
     where p_status = 'processing' and j.status = 'processing' and (p_queue is null or j.queue = p_queue)
     order by j.queue, j.lease_until limit v_open)
    union all
    (select j from public.jobs j
     where p_status in ('done', 'failed') and j.status = p_status
       and j.finished_at >= coalesce(p_since, '-infinity') and (p_until is null or j.finished_at < p_until)
     order by j.finished_at desc limit v_over)
  )
  select agent_vault.read_job(l.j, false) from looked_at l
  where (p_queue is null or (l.j).queue = p_queue) and (v_type is null or (l.j).type ilike v_type)
    and (p_error is null or strpos(lower((l.j).last_error), lower(p_error)) > 0)
    and coalesce((l.j).finished_at, (l.j).created_at) >= coalesce(p_since, '-infinity')
    and (p_until is null or coalesce((l.j).finished_at, (l.j).created_at) < p_until)
  order by (l.j).finished_at desc nulls first, (l.j).queue, coalesce((l.j).lease_until, (l.j).run_at), (l.j).created_at
  limit p_limit;
end
$$;
