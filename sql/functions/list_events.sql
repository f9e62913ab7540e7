-- The events of these queues since a time, the newest first, without a word of theirs but the type, which the caller
-- cleans. p_new leaves out what is handled; without it they are looked for among the newest 10,000. state is that of the
-- newest job, awaiting where it was sent and is not handled yet, and null where there is none.
create or replace function agent_vault.list_events(p_queues text[], p_since timestamptz, p_new boolean, p_limit int)
returns table (
  id uuid, received_at timestamptz, type text, queue text, handled_at timestamptz, handled_how text, state text
)
language plpgsql stable security definer
set search_path = '' set enable_seqscan = off set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
begin
  return query
  with event as (
    (select n.* from (select distinct u.queue from unnest(p_queues) as u (queue)) q, lateral (
      select l.id, l.created_at, l.queue, l.handled_at, l.handled_how, l.metadata from public.agent_learnings l
      -- a span of one name, and in the order of it: so no index but that of what is new can serve, whatever the statistics
      where p_new and l.event_id is not null and l.handled_at is null and l.queue between q.queue and q.queue
        and l.created_at >= p_since
      order by l.queue desc, l.created_at desc limit p_limit) n)
    union all
    (select a.* from (
      select l.id, l.created_at, l.queue, l.handled_at, l.handled_how, l.metadata from public.agent_learnings l
      where not p_new and l.event_id is not null and l.created_at >= p_since
      order by l.created_at desc, l.id desc limit 10000) a
     where a.queue = any(p_queues))
    order by created_at desc, id limit p_limit
  )
  -- the type is the job's where there is one: to look into metadata is to unpack it
  select e.id, e.created_at, coalesce(j.type, e.metadata ->> 'trigger_name'), e.queue, e.handled_at, e.handled_how,
    case when j.awaits_handling then 'awaiting' else j.status end
  from event e left join lateral (
    select o.type, o.status, o.awaits_handling from public.jobs o
    where o.learning_id = e.id order by o.created_at desc limit 1) j on true
  order by e.created_at desc, e.id;
end
$$;
