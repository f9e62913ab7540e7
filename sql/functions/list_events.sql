-- The events of these queues since a time, the newest first, without a word of theirs but the type, which the caller
-- cleans. p_new leaves out what is handled; without it they are looked for among the newest 10,000. state is that of the
-- newest job, awaiting where it was sent and is not handled yet, and null where there is none.
create or replace function agent_vault.list_events(p_queues text[], p_since timestamptz, p_new boolean, p_limit int)
returns table (
  id uuid, received_at timestamptz, type text, queue text, handled_at timestamptz, handled_how text, state text
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
declare
  v_ids uuid[];
begin
  p_queues := agent_vault.confine_queues(p_queues);
  if p_new then
    v_ids := array(
      select n.id from (select distinct u.queue from unnest(p_queues) as u (queue)) q,
        lateral agent_vault.find_new(q.queue, p_since, p_limit) as n (id));
  else
    v_ids := array(
      select a.id from (
        select l.id, l.queue, l.created_at from public.agent_learnings l
        where l.event_id is not null and l.created_at >= p_since
        order by l.created_at desc, l.id desc limit 10000) a
      where a.queue = any(p_queues) order by a.created_at desc, a.id desc limit p_limit);
  end if;
  return query
  -- by their ids first: an index on the time would lead to them over all that is newer, or of other queues
  with found as materialized (
    -- the type is the job's where there is one: to look into metadata is to unpack it
    select l.id, l.created_at, coalesce(j.type, l.metadata ->> 'trigger_name') as type, l.queue, l.handled_at,
      l.handled_how, case when j.awaits_handling then 'awaiting' else j.status end as state
    from public.agent_learnings l left join lateral (
      select o.type, o.status, o.awaits_handling from public.jobs o
      where o.learning_id = l.id order by o.created_at desc limit 1) j on true
    where l.id = any(v_ids)
  )
  select f.id, f.created_at, f.type, f.queue, f.handled_at, f.handled_how, f.state from found f
  order by f.created_at desc, f.id desc limit p_limit;
end
$$;
