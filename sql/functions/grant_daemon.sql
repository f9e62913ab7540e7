-- Confines the login p_name to the daemon of that name and to these queues, in place of those that it had.
create or replace function agent_vault.grant_daemon(p_name text, p_queues text[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
begin
  insert into agent_vault.logins as l (name, queues) values (p_name, p_queues)
  on conflict (name) do update set queues = excluded.queues, granted_at = now();
end
$$;
