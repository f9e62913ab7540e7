-- The queues that a call asks about, where the session's login may: those that it has where it names none. Raises 42501
-- for a queue that is not its own. A login that is not confined may ask about any, and null is all of them.
create or replace function agent_vault.confine_queues(p_queues text[]) returns text[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_own constant text[] := agent_vault.session_queues();
begin
  if v_own is null or p_queues <@ v_own then
    return p_queues;
  elsif p_queues is null then
    return v_own;
  end if;
  raise exception 'the login % has the queue(s) % alone: set DAEMON_QUEUES to these, or grant it again with more',
    quote_ident(session_user), array_to_string(v_own, ', ') using errcode = 'insufficient_privilege';
end
$$;
