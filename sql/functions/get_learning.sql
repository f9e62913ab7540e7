-- One learning by its id, whole; no row when there is none.
create or replace function agent_vault.get_learning(p_id uuid) returns setof jsonb
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select agent_vault.read_learning(l, true) from public.agent_learnings l where l.id = p_id
$$;
