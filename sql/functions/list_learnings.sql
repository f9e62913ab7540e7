-- The newest learnings first, of one source and since a time where these are given.
create or replace function agent_vault.list_learnings(p_since timestamptz, p_source text, p_limit int)
returns setof jsonb
language sql stable security definer set search_path = '' as $$
  select agent_vault.read_learning(l, false) from public.agent_learnings l
  where l.created_at >= coalesce(p_since, '-infinity') and (p_source is null or l.source = p_source)
  order by l.created_at desc, l.id limit p_limit
$$;
