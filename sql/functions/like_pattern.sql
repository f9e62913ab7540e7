-- A glob as a pattern for like: * is anything, ? one character, everything else itself.
create or replace function agent_vault.like_pattern(p_glob text) returns text
language sql immutable security definer set search_path = pg_catalog, pg_temp as $$
  select replace(replace(
    replace(replace(replace(p_glob, '\', '\\'), '%', '\%'), '_', '\_'), '*', '%'), '?', '_')
$$;
