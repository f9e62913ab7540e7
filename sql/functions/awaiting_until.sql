-- The milliseconds until the last of the jobs that a daemon of this name sent, and that await handling, is sent again;
-- null when there is none.
create or replace function agent_vault.awaiting_until(p_daemon text, p_queues text[]) returns double precision
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '2s' as $$
begin
  perform agent_vault.check_daemon(p_daemon);
  p_queues := agent_vault.confine_queues(p_queues);
  return (
    select max(greatest(extract(epoch from j.lease_until - clock_timestamp()) * 1000, 0))::double precision
    from public.jobs j
    where j.status = 'processing' and j.queue = any(p_queues) and j.awaits_handling
      and split_part(j.locked_by, '/', 1) = p_daemon
      -- before 17 an infinite time cannot be subtracted from
      and isfinite(j.lease_until));
end
$$;
