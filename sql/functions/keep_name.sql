-- The pulse of a daemon: it says that the daemon lives, and answers what pulse answers and whether the daemon still has
-- its name (see take_name).
create or replace function agent_vault.keep_name(p_daemon text, p_worker text, p_queues text[])
returns table (database_time timestamptz, work_waits boolean, next_due_ms double precision, has_name boolean)
language plpgsql security definer set search_path = '' set lock_timeout = '2s' as $$
begin
  update agent_vault.daemons d set seen_at = clock_timestamp() where d.name = p_daemon and d.instance = p_worker;
  has_name := found;
  return query select p.database_time, p.work_waits, p.next_due_ms, has_name from agent_vault.pulse(p_queues) p;
end
$$;
