-- Ends jobs as done that their route keeps from the agent, and answers which are; their events are nobody's news, so they
-- count as handled. As complete_jobs, it may be said twice, and leaves out a job whose claim is over.
create or replace function agent_vault.drop_jobs(
  p_job_ids uuid[], p_claims int[], p_outcome jsonb, p_claimed_at timestamptz[] default null
) returns setof uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '4s' as $$
declare
  v_ids constant uuid[] := array(select c from agent_vault.complete_jobs(p_job_ids, p_claims, p_outcome, null, p_claimed_at) as c);
begin
  update public.agent_learnings l set handled_at = clock_timestamp(), handled_how = 'dropped'
  where l.handled_at is null
    and l.id = any(array(select j.learning_id from public.jobs j where j.id = any(v_ids)));
  return query select unnest(v_ids);
end
$$;
