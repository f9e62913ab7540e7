-- The jobs that a daemon of this name sent, in any of its runs, and that failed in the last p_within_s seconds because
-- nobody handled them.
create or replace function agent_vault.failed_unhandled(p_daemon text, p_queues text[], p_within_s double precision)
returns setof uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $$
begin
  perform agent_vault.check_daemon(p_daemon);
  p_queues := agent_vault.confine_queues(p_queues);
  return query
  select j.id from public.jobs j
  where j.status = 'failed' and j.finished_at >= now() - make_interval(secs => p_within_s)
    and j.outcome @> '{"reason": "not handled"}' and j.queue = any(p_queues)
    and split_part(j.locked_by, '/', 1) = p_daemon;
end
$$;
