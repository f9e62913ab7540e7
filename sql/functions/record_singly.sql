-- Records a batch of events row by row; place is a row's own in the batch. A row that the database refuses goes again
-- without its jsonb, without its job, and at last not at all (refused says why). Like the batch, it goes in the order
-- of event_id, so that two vaults do not deadlock; created_at still follows the place.
create or replace function agent_vault.record_singly(
  p_event_ids text[], p_learning_ids uuid[], p_types text[], p_accounts text[], p_queues text[], p_learnings text[],
  p_bodies bytea[], p_as_json boolean[], p_ages_s double precision[]
) returns table (place int, event_id text, learning_id uuid, job_id uuid, duplicate boolean, refused text)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  v_row int;
begin
  for v_row in
    select i.place from unnest(p_event_ids) with ordinality as i (event_id, place) order by i.event_id, i.place
  loop
    for v_try in 0 .. 3 loop
      begin
        return query select v_row, e.event_id, e.learning_id, e.job_id, e.duplicate, null::text
        from agent_vault.insert_events(
          p_event_ids[v_row:v_row], p_learning_ids[v_row:v_row], p_types[v_row:v_row], p_accounts[v_row:v_row],
          p_queues[v_row:v_row], p_learnings[v_row:v_row], p_bodies[v_row:v_row], p_as_json[v_row:v_row],
          array[p_ages_s[v_row] - v_row / 1e6], v_try % 2 = 0, v_try < 2) e;
        exit;
      exception when others then
        if agent_vault.is_passing(sqlstate) then
          raise;
        elsif v_try = 3 then
          return query select v_row, p_event_ids[v_row], null::uuid, null::uuid, false, sqlstate || ': ' || sqlerrm;
        end if;
      end;
    end loop;
  end loop;
end
$$;
