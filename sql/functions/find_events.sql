-- The events that came in a span of time, the oldest first, as a replay would queue them.
create or replace function agent_vault.find_events(
  p_since timestamptz, p_until timestamptz, p_type text, p_queue text, p_limit int
) returns table (id uuid, type text, queue text, created_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
declare
  v_type text := agent_vault.like_pattern(p_type);
begin
  return query
  select e.id, e.type, e.queue, e.created_at
  from (
    select l.id, coalesce(l.metadata ->> 'trigger_name', 'composio_trigger') as type,
      coalesce(l.queue, 'default') as queue, l.created_at
    from public.agent_learnings l
    where l.event_id is not null and l.created_at >= p_since and l.created_at < p_until
  ) e
  where (p_queue is null or e.queue = p_queue) and (v_type is null or e.type ilike v_type)
  order by e.created_at, e.id limit p_limit;
end
$$;
