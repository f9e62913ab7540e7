-- The newest learnings first, of one source and since a time where these are given, among the newest 10,000 of that
-- time: one plan, whatever is asked, and no end of rows read for a source that nobody has. Rows are found by columns
-- and read by id, for a row that goes through a query whole brings its raw body along.
create or replace function agent_vault.list_learnings(p_since timestamptz, p_source text, p_limit int)
returns setof jsonb
language sql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $$
  with newest as (
    select l.id, l.created_at, l.source from public.agent_learnings l
    where l.created_at >= coalesce(p_since, '-infinity') order by l.created_at desc, l.id limit 10000
  ), found as (
    select n.id, n.created_at from newest n where p_source is null or n.source = p_source
    order by n.created_at desc, n.id limit p_limit
  )
  select agent_vault.read_learning(l, false) from found f join public.agent_learnings l on l.id = f.id
  order by f.created_at desc, f.id limit p_limit
$$;
