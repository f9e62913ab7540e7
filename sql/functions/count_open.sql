-- The jobs that wait or are under way, and the age of the oldest in seconds; no row for a status that has none.
create or replace function agent_vault.count_open() returns table (status text, jobs bigint, oldest_s double precision)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select s.status, s.jobs, extract(epoch from now() - s.oldest)::double precision
  from (
    select 1 as place, 'queued' as status, count(*) as jobs, min(j.created_at) as oldest
    from public.jobs j where j.status = 'queued'
    union all
    select 2, 'processing', count(*), min(j.created_at) from public.jobs j where j.status = 'processing'
  ) s
  where s.jobs > 0 order by s.place
$$;
