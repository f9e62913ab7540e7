-- Gives each of these events a new job, all of them or none; answers how many. The job says that it is a replay.
create or replace function agent_vault.replay_learnings(p_learning_ids uuid[]) returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  return agent_vault.queue_learnings(p_learning_ids, true);
end
$$;
