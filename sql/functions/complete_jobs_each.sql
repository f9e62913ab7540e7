-- Ends jobs as done, each with an outcome of its own, and answers which are. p_since_delivery_s is for each the seconds
-- since the gateway accepted it, by the worker's monotonic clock: the database owns wall-clock time. Saying it twice is
-- quiet. A job whose claim is over is left out and fails no other.
create or replace function agent_vault.complete_jobs_each(
  p_job_ids uuid[], p_claims int[], p_outcomes jsonb[], p_since_delivery_s double precision[],
  p_claimed_at timestamptz[] default null
) returns setof uuid
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off set plan_cache_mode = force_generic_plan
set lock_timeout = '4s' as $$
declare
  v_own constant uuid[] := agent_vault.own_jobs(p_job_ids);
  v_ended uuid[];
begin
  if cardinality(v_own) > 1 then
    perform agent_vault.lock_jobs(v_own);
  end if;
  -- as hold_jobs has it, which would look for one job twice; by the id alone, for no index knows such a condition
  with ended as (
    update public.jobs j set
      status = 'done',
      lease_until = null,
      delivered_at = clock_timestamp() - make_interval(secs => said.since_s),
      finished_at = clock_timestamp(),
      outcome = said.outcome,
      last_error = null,
      updated_at = now()
    from unnest(p_job_ids, p_claims, p_claimed_at, p_outcomes, p_since_delivery_s)
      as said (id, claims, claimed_at, outcome, since_s)
    where j.id = any(v_own) and j.id = said.id and j.claims = said.claims
      and (said.claimed_at is null or j.locked_at = said.claimed_at)
      and case j.status when 'processing' then j.lease_until >= now() end
    returning j.id
  )
  select array(select e.id from ended e) into v_ended;
  return query select unnest(v_ended);
  if cardinality(v_ended) < cardinality(p_job_ids) then
    -- the same claim may say it twice: a worker that never heard the first answer
    return query
    with known as materialized (
      select j.id, j.claims, j.locked_at, j.status, j.fenced from public.jobs j where j.id = any(v_own)
    )
    select k.id from known k, unnest(p_job_ids, p_claims, p_claimed_at) as held (id, claims, claimed_at)
    where k.id = held.id and k.claims = held.claims and (held.claimed_at is null or k.locked_at = held.claimed_at)
      and k.status = 'done' and k.fenced and k.id <> all(v_ended);
  end if;
end
$$;
