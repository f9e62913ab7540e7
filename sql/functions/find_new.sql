-- The newest events of one queue since a time that are not handled. A span of one name, in the order of that name, and
-- no sort: so no index but agent_learnings_new can serve, whatever the planner believes, and no more is read than asked
-- for.
create or replace function agent_vault.find_new(p_queue text, p_since timestamptz, p_limit int) returns setof uuid
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off set enable_bitmapscan = off set enable_sort = off as $$
begin
  return query
  select l.id from public.agent_learnings l
  where l.event_id is not null and l.handled_at is null and l.queue between p_queue and p_queue
    and l.created_at >= p_since
  order by l.queue desc, l.created_at desc limit p_limit;
end
$$;
