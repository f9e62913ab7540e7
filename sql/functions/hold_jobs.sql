-- Locks jobs, as lock_jobs does, and answers those that these claims may end now: the claim is the newest, and its lease
-- holds. Those that are not the session's own (own_jobs) are not among them, and are not locked. A crash of the server may
-- forget a claim (claim_jobs) and give its number to another; their times differ. What shows no time is not asked for it.
create or replace function agent_vault.hold_jobs(
  p_job_ids uuid[], p_claims int[], p_claimed_at timestamptz[] default null
) returns uuid[]
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off set plan_cache_mode = force_generic_plan as $$
declare
  v_own constant uuid[] := agent_vault.own_jobs(p_job_ids);
begin
  return array(
    -- by the id alone: an index on the state may look better to the planner, and be as long as the table
    with locked as materialized (
      select j.id, j.claims, j.locked_at, j.status, j.lease_until from public.jobs j
      where j.id = any(v_own) order by j.id for no key update
    )
    select l.id from locked l, unnest(p_job_ids, p_claims, p_claimed_at) as held (id, claims, claimed_at)
    where l.id = held.id and l.claims = held.claims and (held.claimed_at is null or l.locked_at = held.claimed_at)
      and l.status = 'processing' and l.lease_until >= now());
end
$$;
