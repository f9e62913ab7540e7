-- Of these jobs, those that the session's login may settle: for that of one daemon (grant_daemon) what that daemon
-- claimed in its queues, so that it neither ends nor locks nor learns of another's; for every other login all of them.
create or replace function agent_vault.own_jobs(p_job_ids uuid[]) returns uuid[]
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off set plan_cache_mode = force_generic_plan as $$
declare
  v_queues constant text[] := agent_vault.session_queues();
begin
  if v_queues is null then
    return p_job_ids;
  end if;
  return array(
    -- by the id alone, whatever the planner thinks of the queue's index
    with asked as materialized (
      select j.id, j.queue, j.locked_by from public.jobs j where j.id = any(p_job_ids)
    )
    select a.id from asked a where a.queue = any(v_queues) and split_part(a.locked_by, '/', 1) = session_user::text);
end
$$;
