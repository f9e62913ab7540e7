-- The gateway began p_up_s seconds ago, and what its process before had pending is gone with it: what this daemon sent
-- earlier, in any of its runs, and what is not handled is queued again at once, its attempt uncounted, and that
-- is no lapse. Not for ever: an event may be what ends the gateway, so that after 50 claims its attempts are counted
-- and end. Answers how many.
create or replace function agent_vault.resend_unhandled(p_daemon text, p_queues text[], p_up_s double precision)
returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '4s' as $$
declare
  v_ids uuid[];
begin
  perform agent_vault.check_daemon(p_daemon);
  p_queues := agent_vault.confine_queues(p_queues);
  v_ids := array(
    select j.id from public.jobs j
    where j.status = 'processing' and j.queue = any(p_queues) and j.awaits_handling
      and j.delivered_at < clock_timestamp() - make_interval(secs => p_up_s)
      and split_part(j.locked_by, '/', 1) = p_daemon
    order by j.id
    for no key update);
  update public.jobs j set
    status = case when j.claims < 50 or j.attempts < j.max_attempts then 'queued' else 'failed' end,
    awaits_handling = false,
    run_at = now(),
    attempts = case when j.claims < 50 then greatest(j.attempts - 1, 0) else j.attempts end,
    lease_until = null,
    finished_at = case when j.claims < 50 or j.attempts < j.max_attempts then null else clock_timestamp() end,
    outcome = case when j.claims < 50 or j.attempts < j.max_attempts then j.outcome else '{"reason": "not handled"}' end,
    last_error = 'the gateway restarted before it was handled',
    updated_at = now()
  where j.id = any(v_ids);
  return cardinality(v_ids);
end
$$;
