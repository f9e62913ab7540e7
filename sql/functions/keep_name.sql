-- The pulse of a daemon: it says that the daemon lives, and answers what pulse answers, whether the daemon still has
-- its name (see take_name), which queue's next job is a suspect, which only an idle worker gets (see claim_jobs), and
-- whether each of the queues is served by another daemon that lives too (shared).
-- Over its own session (p_listens) a run that could not get the lock of its name, since a dead connection
-- of its own still had it, tries again.
create or replace function agent_vault.keep_name(p_daemon text, p_worker text, p_queues text[], p_listens boolean)
returns table (
  database_time timestamptz, work_waits boolean, next_due_ms double precision, suspect_queue text, has_name boolean,
  shared boolean
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set enable_sort = off set plan_cache_mode = force_generic_plan
set lock_timeout = '2s' as $$
declare
  v_locked boolean := (select d.locked from agent_vault.daemons d where d.name = p_daemon and d.instance = p_worker);
begin
  perform agent_vault.check_daemon(p_daemon);
  p_queues := agent_vault.confine_queues(p_queues);
  if p_listens and not v_locked then
    v_locked := pg_try_advisory_lock(hashtextextended('agent_vault.daemons/' || p_daemon, 0));
  end if;
  update agent_vault.daemons d set seen_at = clock_timestamp(), locked = v_locked
  where d.name = p_daemon and d.instance = p_worker;
  has_name := found;
  suspect_queue := (
    select q.queue from unnest(p_queues) as q (queue), lateral (
      select j.lapses from public.jobs j where j.status = 'queued' and j.queue = q.queue and j.run_at <= now()
      order by j.run_at, j.created_at limit 1) as head
    where head.lapses > 0 limit 1);
  shared := p_queues <@ array(
    select unnest(d.queues) from agent_vault.daemons d
    where d.name <> p_daemon and d.queues && p_queues
      and d.seen_at > clock_timestamp() - make_interval(secs => d.silence_s));
  return query select p.database_time, p.work_waits, p.next_due_ms, suspect_queue, has_name, shared
  from agent_vault.pulse(p_queues) p;
end
$$;
