-- A daemon takes its name, and with it the leases of an earlier run, which lapse at once, but for what that run sent
-- and the agent has yet to handle; false when another that lives has the name. p_worker is what stands in locked_by:
-- the name, a slash, and what tells this run from others.
--
-- Whoever has the name shows in two ways that it lives: by a pulse in the last p_silence_s seconds, and, where its
-- session is its own (p_listens), by the advisory lock of the name, which goes the moment that session does. So a
-- daemon that was killed is followed at once, and one whose machine lost its power after its silence.
create or replace function agent_vault.take_name(
  p_daemon text, p_worker text, p_queues text[], p_listens boolean, p_silence_s double precision
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '2s' as $$
declare
  v_lock constant bigint := hashtextextended('agent_vault.daemons/' || p_daemon, 0);
  -- a pooler would keep a session's lock for whoever comes next: there it is only tried
  v_free constant boolean := case when p_listens then pg_try_advisory_lock(v_lock)
    else pg_try_advisory_xact_lock(v_lock) end;
begin
  perform agent_vault.check_daemon(p_daemon);
  p_queues := agent_vault.confine_queues(p_queues);
  insert into agent_vault.daemons as d (name, instance, queues, locked, silence_s)
  values (p_daemon, p_worker, p_queues, p_listens and v_free, p_silence_s)
  on conflict (name) do update set
    instance = excluded.instance,
    queues = excluded.queues,
    -- over a connection that does not listen, this run's own listening one may have the lock
    locked = excluded.locked or not p_listens and not v_free and d.locked and d.instance = p_worker,
    silence_s = excluded.silence_s,
    started_at = case when d.instance = excluded.instance then d.started_at else now() end,
    seen_at = clock_timestamp()
  where d.instance = p_worker or d.locked and v_free
    or d.seen_at < clock_timestamp() - make_interval(secs => d.silence_s);
  if not found then
    if p_listens and v_free then
      perform pg_advisory_unlock(v_lock);
    end if;
    return false;
  end if;
  -- what a forgotten transaction has locked is left to its lease, and does not keep the daemon from its work
  update public.jobs j set lease_until = now() - interval '1 millisecond'
  where j.id = any(array(
    select o.id from public.jobs o
    where o.status = 'processing' and o.lease_until >= now()
      and o.locked_by <> p_worker and split_part(o.locked_by, '/', 1) = p_daemon and o.fenced
      and not o.awaits_handling
    order by o.id for no key update skip locked));
  return true;
end
$$;
