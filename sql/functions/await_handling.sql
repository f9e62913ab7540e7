-- Leaves jobs that the gateway took to the agent: each stays under way for p_within_s seconds, held by no worker, until
-- the agent handles its event (handle_event); then it is sent again (return_lapsed). Answers for each whether it is
-- handled already, since its claim began: such a job is done. p_since_delivery_s is as for complete_jobs. claims rises,
-- so that this claim is over: no late word of its worker reaches the job. Saying it twice is quiet. A job whose claim is
-- over is left out and fails no other.
create or replace function agent_vault.await_handling(
  p_job_ids uuid[], p_claims int[], p_outcome jsonb, p_since_delivery_s double precision, p_within_s double precision,
  p_claimed_at timestamptz[] default null
) returns table (id uuid, handled boolean)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set plan_cache_mode = force_generic_plan set lock_timeout = '4s' as $$
#variable_conflict use_column
declare
  v_held constant uuid[] := agent_vault.hold_jobs(p_job_ids, p_claims, p_claimed_at);
begin
  -- the next number is this claim's own doing, or that of an acknowledgement while it had the job
  return query
  with known as materialized (
    select j.id, j.claims, j.locked_at, j.status, j.awaits_handling, j.outcome from public.jobs j where j.id = any(agent_vault.own_jobs(p_job_ids))
  )
  select k.id, not k.awaits_handling from known k, unnest(p_job_ids, p_claims, p_claimed_at) as held (id, claims, claimed_at)
  where k.id = held.id and k.claims = held.claims + 1 and (held.claimed_at is null or k.locked_at = held.claimed_at)
    and (k.awaits_handling or k.status = 'done' and k.outcome ? 'handled');
  -- a statement that began after the lock: it sees what was handled while this call waited
  return query
  with known as materialized (
    select j.id, (
      select l.handled_how from public.agent_learnings l
      where l.id = j.learning_id and l.handled_at >= j.locked_at limit 1) as how
    from public.jobs j where j.id = any(v_held)
  )
  update public.jobs j set
    status = case when k.how is null then 'processing' else 'done' end,
    awaits_handling = k.how is null,
    claims = j.claims + 1,
    lease_until = case when k.how is null then now() + make_interval(secs => p_within_s) end,
    delivered_at = clock_timestamp() - make_interval(secs => p_since_delivery_s),
    finished_at = case when k.how is not null then clock_timestamp() end,
    outcome = agent_vault.outcome_handled(p_outcome, k.how),
    last_error = null,
    updated_at = now()
  from known k
  where j.id = any(v_held) and j.id = k.id
  returning j.id, not j.awaits_handling;
end
$$;
