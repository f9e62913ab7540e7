-- The role of one kind (server, daemon, operator) for this database; roles belong to the whole server. A name that is
-- longer than the server takes has the fingerprint of the database's in its place.
create or replace function agent_vault.role_name(p_kind text) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_name constant text := 'vault_' || p_kind || '_' || current_database();
begin
  return case when octet_length(v_name) <= current_setting('max_identifier_length')::int then v_name
    else 'vault_' || p_kind || '_' || md5(current_database()) end;
end
$$;
