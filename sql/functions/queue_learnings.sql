-- Puts in a job for each of these events, in the queue that was chosen when it was recorded, and answers how many. A
-- replay is a job beside those that the event has; without p_replay only an event that never had one gets it. Raises
-- when one of them gets none.
create or replace function agent_vault.queue_learnings(p_learning_ids uuid[], p_replay boolean) returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '2s' as $$
declare
  v_queued int;
begin
  with event as (
    -- locked, so that the pruning leaves it alone
    select l.id, l.created_at, l.queue, coalesce(l.metadata ->> 'trigger_name', 'composio_trigger') as type
    from public.agent_learnings l
    where l.id = any(p_learning_ids) and l.event_id is not null and (p_replay or l.queued_at is null)
    order by l.created_at, l.id
    for no key update
  ), marked as (
    update public.agent_learnings l set queued_at = now(), sweep_at = null
    from event e where l.id = e.id and l.event_id is not null and l.queued_at is null
  )
  insert into public.jobs (type, payload, queue, learning_id, replay)
  select e.type, agent_vault.job_payload(e.type, e.id, e.created_at), coalesce(e.queue, 'default'), e.id, p_replay
  from event e;
  get diagnostics v_queued = row_count;
  if v_queued < cardinality(p_learning_ids) then
    raise exception 'a learning is gone, or a trigger of public.jobs drops its job in silence: nothing was queued'
      using errcode = 'integrity_constraint_violation';
  end if;
  return v_queued;
end
$$;
