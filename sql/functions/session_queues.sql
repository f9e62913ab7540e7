-- The queues to which the session's login is confined (grant_daemon); null for every other login. It is the session's
-- user that counts: in a function that runs with its owner's rights the current user is the owner.
create or replace function agent_vault.session_queues() returns text[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $$
begin
  return (select l.queues from agent_vault.logins l where l.name = session_user::text);
end
$$;
