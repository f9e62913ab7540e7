-- Inserts a batch of events, each as a learning and a job, in one statement; the arrays run in parallel. Answers for
-- each, in order, its learning, its job and whether it was known before. Rows go in ordered by event_id, so that two
-- vaults with the same events wait for each other and do not deadlock. p_with_json and p_with_job leave out what a
-- row was refused for. The age is the seconds since receipt. Raises when a row is neither new nor known.
create or replace function agent_vault.insert_events(
  p_event_ids text[], p_learning_ids uuid[], p_types text[], p_accounts text[], p_queues text[], p_learnings text[],
  p_bodies bytea[], p_as_json boolean[], p_ages_s double precision[], p_with_json boolean, p_with_job boolean
) returns table (event_id text, learning_id uuid, job_id uuid, duplicate boolean)
language plpgsql security definer set search_path = '' set lock_timeout = '8s' as $$
#variable_conflict use_column
declare
  v_new_ids uuid[];
  v_new_jobs uuid[];
  v_answered int;
begin
  with input as (
    select * from unnest(
      p_event_ids, p_learning_ids, p_types, p_accounts, p_queues, p_learnings, p_bodies, p_as_json, p_ages_s
    ) with ordinality as e (event_id, id, type, account, queue, learning, body, as_json, age_s, place)
  ), event as (
    -- received_at differs within a batch, so that the newest first is a real order; a clock that moves on between
    -- the rows would undo that
    select distinct on (i.event_id) i.*, statement_timestamp() - make_interval(secs => i.age_s)
      + (i.place - 1) * interval '1 microsecond' as received_at
    from input i order by i.event_id, i.place
  ), learned as (
    insert into public.agent_learnings
      (id, event_id, created_at, updated_at, learning, category, source, tags, confidence, metadata, raw_body, queue,
       queued_at)
    select e.id, e.event_id, e.received_at, e.received_at,
      e.learning, 'composio_trigger', 'composio_webhook',
      array_remove(array[e.account, upper(e.type)], null), 1.0,
      jsonb_strip_nulls(jsonb_build_object(
        'received_at', e.received_at, 'trigger_name', e.type, 'connected_account_id', e.account))
      || case when p_with_json and e.as_json
        then jsonb_build_object('raw_payload', agent_vault.read_json(e.type, e.body)) else '{}' end,
      e.body, e.queue, case when p_with_job then now() end
    from event e order by e.event_id
    on conflict do nothing
    returning id
  ), queued as (
    insert into public.jobs (type, payload, queue, learning_id)
    select e.type, agent_vault.job_payload(e.type, e.id, e.received_at), e.queue, e.id
    from learned l join event e on e.id = l.id where p_with_job order by e.place
    returning id, learning_id
  )
  select array_agg(l.id), array_agg(q.id) into v_new_ids, v_new_jobs
  from learned l left join queued q on q.learning_id = l.id;

  if cardinality(v_new_ids) = cardinality(p_event_ids) then
    -- each is new: nothing is to be looked up
    return query
    select i.event_id, i.id, n.job_id, false
    from unnest(p_event_ids, p_learning_ids) with ordinality as i (event_id, id, place)
    join unnest(v_new_ids, v_new_jobs) as n (id, job_id) on n.id = i.id
    order by i.place;
    return;
  end if;

  -- a statement of its own, so that it sees what a concurrent vault committed while the insert waited for it; event by
  -- event, so that no statistics make it read the whole table
  return query
  select i.event_id, l.id,
    coalesce(n.job_id, (select j.id from public.jobs j where j.learning_id = l.id order by j.created_at limit 1)),
    n.id is null or i.place > min(i.place) over (partition by i.event_id)
  from unnest(p_event_ids) with ordinality as i (event_id, place)
  cross join lateral (
    select k.id from public.agent_learnings k where k.event_id = i.event_id offset 0
  ) l
  left join unnest(v_new_ids, v_new_jobs) as n (id, job_id) on n.id = l.id
  order by i.place;
  get diagnostics v_answered = row_count;
  if v_answered < cardinality(p_event_ids) then
    raise exception 'a unique constraint or a trigger of public.agent_learnings keeps an event out in silence'
      using errcode = 'integrity_constraint_violation';
  end if;
end
$$;
