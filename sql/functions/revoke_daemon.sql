-- Ends what grant_daemon began, and answers how many jobs of that daemon are queued again at once: those in its hands
-- untried, and those that it sent with their attempt counted, since its agent can no longer say that it handled them.
-- The login goes first: while it can claim, more may come.
create or replace function agent_vault.revoke_daemon(p_name text) returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '8s' as $$
declare
  v_ids uuid[];
begin
  v_ids := array(
    select j.id from public.jobs j
    where j.status = 'processing' and j.fenced and split_part(j.locked_by, '/', 1) = p_name
    order by j.id
    for no key update);
  update public.jobs j set
    status = 'queued',
    awaits_handling = false,
    run_at = now(),
    lease_until = null,
    locked_by = null,
    attempts = case when j.awaits_handling then j.attempts else greatest(j.attempts - 1, 0) end,
    last_error = 'given back: the login of its daemon was revoked',
    updated_at = now()
  where j.id = any(v_ids);
  delete from agent_vault.daemons d where d.name = p_name;
  delete from agent_vault.logins l where l.name = p_name;
  return cardinality(v_ids);
end
$$;
