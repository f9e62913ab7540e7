-- Handles many events, as handle_event does one; answers for each id that was given, once.
create or replace function agent_vault.handle_events(p_ids uuid[], p_how text, p_queues text[] default null)
returns table (id uuid, found boolean, learning_id uuid, ended uuid[])
language plpgsql security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '4s' as $$
#variable_conflict use_column
declare
  v_learnings uuid[] := p_ids || array(
    select j.learning_id from public.jobs j where j.id = any(p_ids) and j.learning_id is not null);
begin
  p_queues := agent_vault.confine_queues(p_queues);
  -- all at once, for those of one event after the other's would come out of order
  perform agent_vault.lock_jobs(
    array(select j.id from public.jobs j where j.id = any(p_ids) and (p_queues is null or j.queue = any(p_queues)))
    || array(
      select j.id from public.jobs j
      where j.learning_id = any(v_learnings) and (p_queues is null or j.queue = any(p_queues))));
  return query
  select i.id, h.found, h.learning_id, h.ended
  from (select distinct u.id from unnest(p_ids) as u (id) order by u.id) i,
    lateral agent_vault.handle_event(i.id, p_how, p_queues) h;
end
$$;
