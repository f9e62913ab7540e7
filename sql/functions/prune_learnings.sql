-- Deletes up to p_limit events that came more than p_days ago, the oldest first; answers how many. An event goes only
-- when it was queued and every job of it that is left is done: a dead letter keeps its learning. What was not recorded
-- as an event is never touched. One caller at a time: whoever comes second is answered 0.
create or replace function agent_vault.prune_learnings(p_days int, p_limit int) returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '2s' as $$
declare
  v_ids uuid[];
  v_pruned int;
begin
  if p_days < 7 then
    raise exception 'learnings are kept for 7 days at the least: an event that Composio sends again would be a new one'
      using errcode = 'invalid_parameter_value';
  end if;
  if not pg_try_advisory_xact_lock(hashtextextended('agent_vault.prune', 0)) then
    return 0;
  end if;
  v_ids := array(
    select l.id from public.agent_learnings l
    where l.event_id is not null and l.created_at < now() - make_interval(days => p_days) and l.queued_at is not null
      -- counted, since a join might read all jobs
      and (select count(*) from public.jobs j where j.learning_id = l.id and j.status <> 'done') = 0
    order by l.created_at, l.id limit p_limit
    for update skip locked);
  if cardinality(v_ids) = 0 then
    return 0;
  end if;
  -- asked again now that it is locked: a replay may have come between
  delete from public.agent_learnings l
  where l.id = any(v_ids) and l.event_id is not null
    and (select count(*) from public.jobs j where j.learning_id = l.id and j.status <> 'done') = 0;
  get diagnostics v_pruned = row_count;
  return v_pruned;
end
$$;
