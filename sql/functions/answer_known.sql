-- Answers for a batch of events of which some were known, and p_new_ids are the learnings that it inserted: those get their
-- jobs here. place is an event's own in the batch. Raises when an event is neither new nor known.
create or replace function agent_vault.answer_known(p_event_ids text[], p_new_ids uuid[], p_with_job boolean)
returns table (place int, event_id text, learning_id uuid, job_id uuid, duplicate boolean)
language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
declare
  v_answered int;
begin
  insert into public.jobs (type, payload, queue, learning_id)
  select l.type, agent_vault.job_payload(l.type, l.id, l.created_at), l.queue, l.id
  from (select k.*, k.metadata ->> 'trigger_name' as type from public.agent_learnings k where k.id = any(p_new_ids)) l
  where p_with_job order by l.created_at;
  -- a statement that began after the inserts, so that it sees what a concurrent vault committed while they waited for it;
  -- event by event, so that no statistics make it read the whole table
  return query
  select i.place::int, i.event_id, l.id,
    (select j.id from public.jobs j where j.learning_id = l.id order by j.created_at limit 1),
    not coalesce(l.id = any(p_new_ids), false) or i.place > min(i.place) over (partition by i.event_id)
  from unnest(p_event_ids) with ordinality as i (event_id, place)
  cross join lateral (
    select k.id from public.agent_learnings k where k.event_id = i.event_id offset 0
  ) l;
  get diagnostics v_answered = row_count;
  if v_answered < cardinality(p_event_ids) then
    raise exception 'a unique constraint or a trigger of public.agent_learnings keeps an event out in silence'
      using errcode = 'integrity_constraint_violation';
  end if;
end
$$;
