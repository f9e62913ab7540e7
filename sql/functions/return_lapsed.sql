-- Puts the jobs of a queue whose lease lapsed back: queued, or failed when no attempt is left. The attempt stays
-- counted. locked_by is kept: it lets the worker revive the lease. lapses marks the job as one to be claimed alone. What
-- awaits handling has no worker that fell silent: the agent did not handle it in time, and that is no lapse. Nor is the
-- first of a job that ten others or more shared, as those of a digest do: any of them is hardly the cause, and each
-- alone they would keep all that is new waiting.
create or replace function agent_vault.return_lapsed(p_queue text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '4s' as $$
declare
  v_ids uuid[];
  v_crowded text[];
begin
  v_ids := array(
    select j.id from public.jobs j
    where j.status = 'processing' and j.queue = p_queue and j.lease_until < now()
    order by j.lease_until limit 1000
    for update skip locked);
  if cardinality(v_ids) = 0 then
    return;
  end if;
  v_crowded := array(
    select j.locked_by from public.jobs j where j.id = any(v_ids) and not j.awaits_handling and j.locked_by is not null
    group by j.locked_by having count(*) > 10);
  update public.jobs j set
    status = case when j.attempts < j.max_attempts then 'queued' else 'failed' end,
    run_at = now(),
    lease_until = null,
    awaits_handling = false,
    lapses = j.lapses + (not j.awaits_handling and (j.attempts > 1 or coalesce(j.locked_by <> all(v_crowded), true)))::int,
    finished_at = case when j.attempts < j.max_attempts then null else clock_timestamp() end,
    outcome = case
      when j.attempts < j.max_attempts then j.outcome
      when j.awaits_handling then '{"reason": "not handled"}'
      else '{"reason": "lapsed"}' end,
    last_error = case
      when j.awaits_handling then 'not handled'
      else 'lease lapsed: its worker gave no sign of life' end,
    updated_at = now()
  where j.id = any(v_ids);
end
$$;
