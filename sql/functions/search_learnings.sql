-- The newest learnings whose text, tags or mail subject hold a word, among the newest 10,000. The subject is looked
-- up by itself, since a long mail pushes it out of the learning's 1,000 characters.
create or replace function agent_vault.search_learnings(p_words text, p_limit int) returns setof jsonb
language sql stable security definer set search_path = '' as $$
  with newest as (
    select l from public.agent_learnings l order by l.created_at desc, l.id limit 10000
  ), pattern as (
    select '%' || replace(replace(replace(p_words, '\', '\\'), '%', '\%'), '_', '\_') || '%' as p
  )
  select agent_vault.read_learning(n.l, false)
  from newest n, pattern,
    lateral (select coalesce((n.l).metadata #> '{raw_payload,data,subject}',
      (n.l).metadata #> '{raw_payload,payload,subject}') as subject) s
  where (n.l).learning ilike p or array_to_string((n.l).tags, ' ') ilike p
    or jsonb_typeof(s.subject) = 'string' and s.subject #>> '{}' ilike p
  order by (n.l).created_at desc, (n.l).id limit p_limit
$$;
