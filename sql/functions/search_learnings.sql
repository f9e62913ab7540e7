-- The newest learnings whose text, tags or mail subject hold a word, among the newest 10,000. The subject is looked
-- up by itself, since a long mail pushes it out of the learning's 1,000 characters. Rows are found by columns and read
-- by id, for a row that goes through a query whole brings its raw body along.
create or replace function agent_vault.search_learnings(p_words text, p_limit int) returns setof jsonb
language sql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $$
  with newest as (
    select l.id, l.created_at, l.learning, l.tags, l.metadata from public.agent_learnings l
    order by l.created_at desc, l.id limit 10000
  ), pattern as (
    select '%' || replace(replace(replace(p_words, '\', '\\'), '%', '\%'), '_', '\_') || '%' as p
  ), found as (
    select n.id, n.created_at
    from newest n, pattern,
      lateral (select coalesce(n.metadata #> '{raw_payload,data,subject}',
        n.metadata #> '{raw_payload,payload,subject}') as subject) s
    where n.learning ilike p or array_to_string(n.tags, ' ') ilike p
      or jsonb_typeof(s.subject) = 'string' and s.subject #>> '{}' ilike p
    order by n.created_at desc, n.id limit p_limit
  )
  select agent_vault.read_learning(l, false) from found f join public.agent_learnings l on l.id = f.id
  order by f.created_at desc, f.id limit p_limit
$$;
