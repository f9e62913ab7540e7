-- Records a batch of events. A row that the database refuses never fails its neighbours: the batch is then done row by
-- row, and such a row goes again without its jsonb, without its job, and at last not at all (refused says why).
-- Deadlocks, time-outs and a lack of resources are raised: they are nobody's fault and the whole batch may come again.
create or replace function agent_vault.record_events(
  p_event_ids text[], p_learning_ids uuid[], p_types text[], p_accounts text[], p_queues text[], p_learnings text[],
  p_bodies bytea[], p_as_json boolean[], p_ages_s double precision[]
) returns table (event_id text, learning_id uuid, job_id uuid, duplicate boolean, refused text)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  v_try int;
begin
  begin
    return query select e.*, null::text from agent_vault.insert_events(
      p_event_ids, p_learning_ids, p_types, p_accounts, p_queues, p_learnings,
      p_bodies, p_as_json, p_ages_s, true, true) e;
    return;
  exception when others then
    if sqlstate ~ '^(08|40|53|55|57|58|XX)' then
      raise;
    end if;
  end;
  for v_row in 1 .. cardinality(p_event_ids) loop
    for v_try in 0 .. 3 loop
      begin
        return query select e.*, null::text from agent_vault.insert_events(
          p_event_ids[v_row:v_row], p_learning_ids[v_row:v_row], p_types[v_row:v_row], p_accounts[v_row:v_row],
          p_queues[v_row:v_row], p_learnings[v_row:v_row], p_bodies[v_row:v_row], p_as_json[v_row:v_row],
          p_ages_s[v_row:v_row], v_try % 2 = 0, v_try < 2) e;
        exit;
      exception when others then
        if sqlstate ~ '^(08|40|53|55|57|58|XX)' then
          raise;
        elsif v_try = 3 then
          return query select p_event_ids[v_row], null::uuid, null::uuid, false, sqlstate || ': ' || sqlerrm;
        end if;
      end;
    end loop;
  end loop;
end
$$;
