-- The gateway began p_up_s seconds ago, and what its process before had pending is gone with it: what this daemon sent
-- earlier, in any of its runs, and what is not handled is queued again at once, its attempt counted, and that is no
-- lapse. Answers how many.
create or replace function agent_vault.resend_unhandled(p_daemon text, p_queues text[], p_up_s double precision)
returns int
language plpgsql security definer set search_path = '' set enable_seqscan = off set lock_timeout = '4s' as $$
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
    status = 'queued',
    awaits_handling = false,
    run_at = now(),
    lease_until = null,
    last_error = 'sent again: the gateway restarted before it was handled',
    updated_at = now()
  where j.id = any(v_ids);
  return cardinality(v_ids);
end
$$;
