-- Records a batch of events, and answers for each, in order. A row that the database refuses never fails its
-- neighbours: the batch is then done row by row. Deadlocks, time-outs, a read-only database and a lack of resources
-- are raised: they are nobody's fault and the whole batch may come again. What is answered is on the disk, though
-- server, database or role have synchronous_commit off: the setting holds to the end of the transaction. p_wake are
-- queues whose daemons are woken besides those of the batch; null wakes nobody, since the caller will.
create or replace function agent_vault.record_batch(
  p_event_ids text[], p_learning_ids uuid[], p_types text[], p_accounts text[], p_queues text[], p_learnings text[],
  p_bodies bytea[], p_as_json boolean[], p_ages_s double precision[], p_wake text[]
) returns table (event_id text, learning_id uuid, job_id uuid, duplicate boolean, refused text)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_setting text;  -- assigned, since perform would run a query
begin
  if current_setting('synchronous_commit') = 'off' then
    v_setting := set_config('synchronous_commit', 'on', true);
  end if;
  if cardinality(p_wake) > 0 then
    perform pg_notify('agent_vault_' || q, '') from unnest(p_wake) q;
  end if;
  v_setting := set_config('agent_vault.quiet', case when p_wake is null then 'on' else 'off' end, true);
  begin
    return query select e.event_id, e.learning_id, e.job_id, e.duplicate, null::text
    from agent_vault.insert_events(
      p_event_ids, p_learning_ids, p_types, p_accounts, p_queues, p_learnings,
      p_bodies, p_as_json, p_ages_s, true, true) e;
    v_setting := set_config('agent_vault.quiet', 'off', true);
    return;
  exception when others then
    if agent_vault.is_passing(sqlstate) then
      raise;
    end if;
  end;
  return query select e.event_id, e.learning_id, e.job_id, e.duplicate, e.refused
  from agent_vault.record_singly(
    p_event_ids, p_learning_ids, p_types, p_accounts, p_queues, p_learnings, p_bodies, p_as_json, p_ages_s) e
  order by e.place;
  v_setting := set_config('agent_vault.quiet', 'off', true);
end
$$;
