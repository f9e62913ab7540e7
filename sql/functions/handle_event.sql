-- The agent has read or acknowledged (p_how) an event, p_id being its learning's id or a job's: the learning is marked,
-- the first time for good, and its jobs that were sent and not handled are done, also those that wait to be sent again
-- or failed for it. What is acknowledged needs no sending: jobs that were never sent are done too, and one in a worker's
-- hands, which is fenced out. What was only read before it was sent is sent all the same (see claim_jobs), and
-- await_handling asks for what was read while a worker had its job. A job without a learning can be acknowledged.
-- p_queues are those in which to look, null for all. Answers whether there is such an event or job, its learning, and
-- which jobs it ended.
create or replace function agent_vault.handle_event(p_id uuid, p_how text, p_queues text[] default null)
returns table (found boolean, learning_id uuid, ended uuid[])
language plpgsql security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '4s' as $$
#variable_conflict use_column
declare
  v_job public.jobs;
  v_learning uuid;
  v_ids uuid[];
begin
  p_queues := agent_vault.confine_queues(p_queues);
  if p_how is null or p_how not in ('read', 'acknowledged') then
    raise exception '% is no way to handle an event: say read or acknowledged', coalesce(quote_literal(p_how), 'null')
      using errcode = 'invalid_parameter_value';
  end if;
  select j.* into v_job from public.jobs j where j.id = p_id and (p_queues is null or j.queue = any(p_queues));
  v_learning := (
    select l.id from public.agent_learnings l
    where l.id = p_id and (p_queues is null or coalesce(l.queue, 'default') = any(p_queues))
      or l.id = v_job.learning_id
    limit 1);
  if v_learning is null and (v_job.id is null or p_how = 'read') then
    return query select false, null::uuid, '{}'::uuid[];
    return;
  end if;
  -- jobs first and then the learning, as everybody does; locked, none of them changes hands until the mark is seen
  v_ids := array(
    select j.id from public.jobs j where j.id = v_job.id
    union
    select j.id from public.jobs j where j.learning_id = v_learning and (p_queues is null or j.queue = any(p_queues)));
  perform agent_vault.lock_jobs(v_ids);
  update public.agent_learnings l set handled_at = coalesce(l.handled_at, clock_timestamp()), handled_how = p_how
  where l.id = v_learning and (l.handled_at is null or p_how = 'acknowledged' and l.handled_how is distinct from p_how);
  with ended as (
    update public.jobs j set
      status = 'done',
      awaits_handling = false,
      claims = j.claims + (j.status = 'processing' and not j.awaits_handling)::int,
      lease_until = null,
      finished_at = clock_timestamp(),
      outcome = agent_vault.outcome_handled(j.outcome, p_how),
      last_error = null,
      updated_at = now()
    where j.id = any(v_ids) and (
      j.awaits_handling
      or j.status in ('queued', 'processing') and j.delivered_at is not null
      or j.status = 'failed' and j.outcome @> '{"reason": "not handled"}'
      or p_how = 'acknowledged' and j.status in ('queued', 'processing'))
    returning j.id
  )
  select coalesce(array_agg(e.id), '{}') into v_ids from ended e;
  return query select true, v_learning, v_ids;
end
$$;
