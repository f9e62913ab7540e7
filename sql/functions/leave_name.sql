-- A daemon that ends gives its name back, so that whoever comes next need not wait for its silence.
create or replace function agent_vault.leave_name(p_daemon text, p_worker text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
begin
  perform agent_vault.check_daemon(p_daemon);
  delete from agent_vault.daemons d where d.name = p_daemon and d.instance = p_worker;
end
$$;
