-- One event, whole, which counts as read from then on; p_id is its learning's id or a job's. No row when there is none
-- in these queues (null: in any).
create or replace function agent_vault.read_event(p_id uuid, p_queues text[] default null) returns setof jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
declare
  v_learning uuid := (select h.learning_id from agent_vault.handle_event(p_id, 'read', p_queues) h);
begin
  return query select g from agent_vault.get_learning(v_learning) g limit 1;
end
$$;
