-- Records a batch of events as record_batch does, and wakes their daemons. Vaults of earlier releases call it.
create or replace function agent_vault.record_events(
  p_event_ids text[], p_learning_ids uuid[], p_types text[], p_accounts text[], p_queues text[], p_learnings text[],
  p_bodies bytea[], p_as_json boolean[], p_ages_s double precision[]
) returns table (event_id text, learning_id uuid, job_id uuid, duplicate boolean, refused text)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  return query select e.event_id, e.learning_id, e.job_id, e.duplicate, e.refused
  from agent_vault.record_batch(
    p_event_ids, p_learning_ids, p_types, p_accounts, p_queues, p_learnings, p_bodies, p_as_json, p_ages_s, '{}') e;
end
$$;
