-- Inserts a batch of events, each as a learning and a job; the arrays run in parallel. Answers for each, in order, its
-- learning, its job and whether it was known before. Rows go in ordered by event_id, so that two vaults with the same
-- events wait for each other and do not deadlock; an event that is twice in the batch goes in as its first.
-- p_with_json and p_with_job leave out what a row was refused for. The age is the seconds since receipt. What is done for
-- each row stands in the statement: a call would cost as much again.
create or replace function agent_vault.insert_events(
  p_event_ids text[], p_learning_ids uuid[], p_types text[], p_accounts text[], p_queues text[], p_learnings text[],
  p_bodies bytea[], p_as_json boolean[], p_ages_s double precision[], p_with_json boolean, p_with_job boolean
) returns table (event_id text, learning_id uuid, job_id uuid, duplicate boolean)
language plpgsql security definer
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set lock_timeout = '8s' as $$
#variable_conflict use_column
declare
  v_new_ids uuid[];
begin
  with learned as (
    insert into public.agent_learnings
      (id, event_id, created_at, updated_at, learning, category, source, tags, confidence, metadata, raw_body, queue,
       queued_at)
    select e.id, e.event_id, e.received_at, e.received_at,
      e.learning, 'composio_trigger', 'composio_webhook',
      array_remove(array[e.account, upper(e.type)], null), 1.0,
      jsonb_set_lax(
        jsonb_strip_nulls(jsonb_build_object(
          'received_at', e.received_at, 'trigger_name', e.type, 'connected_account_id', e.account)),
        '{raw_payload}',
        case when not (p_with_json and e.as_json) then null
          when e.type like 'composio.connected\_account.%' then agent_vault.account_document(e.body)
          else convert_from(e.body, 'UTF8')::jsonb end,
        true, 'return_target'),
      e.body, e.queue, case when p_with_job then now() end
    from (
      -- received_at differs within a batch, so that the newest first is a real order; a clock that moves on between
      -- the rows would undo that
      select i.*, statement_timestamp() - make_interval(secs => i.age_s)
        + (i.place - 1) * interval '1 microsecond' as received_at
      from unnest(
        p_event_ids, p_learning_ids, p_types, p_accounts, p_queues, p_learnings, p_bodies, p_as_json, p_ages_s
      ) with ordinality as i (event_id, id, type, account, queue, learning, body, as_json, age_s, place)
      order by i.event_id, i.place
    ) e
    on conflict do nothing
    returning id
  )
  select array_agg(l.id) into v_new_ids from learned l;

  if cardinality(v_new_ids) = cardinality(p_event_ids) then
    -- each is new: nothing is to be looked up
    return query
    with queued as (
      insert into public.jobs (type, payload, queue, learning_id)
      select e.type, agent_vault.job_payload(e.type, e.id, e.received_at), e.queue, e.id
      from (
        select i.*, statement_timestamp() - make_interval(secs => i.age_s)
          + (i.place - 1) * interval '1 microsecond' as received_at
        from unnest(p_learning_ids, p_types, p_queues, p_ages_s) with ordinality as i (id, type, queue, age_s, place)
      ) e
      where p_with_job order by e.place
      returning id, learning_id
    )
    select i.event_id, i.id, q.id, false
    from unnest(p_event_ids, p_learning_ids) with ordinality as i (event_id, id, place)
    left join queued q on q.learning_id = i.id
    order by i.place;
    return;
  end if;

  return query
  select a.event_id, a.learning_id, a.job_id, a.duplicate
  from agent_vault.answer_known(p_event_ids, v_new_ids, p_with_job) a
  order by a.place;
end
$$;
