-- Raises 42501 when the session's login is that of one daemon (grant_daemon) and speaks for another.
create or replace function agent_vault.check_daemon(p_daemon text) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
  if p_daemon is distinct from session_user::text and agent_vault.session_queues() is not null then
    raise exception 'the login % is that of one daemon: set DAEMON_NAME to %', quote_ident(session_user), session_user
      using errcode = 'insufficient_privilege';
  end if;
end
$$;
