-- The dead letters that a person means, the longest dead first, each with the beginning of its error. What a person
-- cancelled is not among them: who wants that back names it.
create or replace function agent_vault.find_failed(
  p_type text, p_queue text, p_since timestamptz, p_until timestamptz, p_error text, p_limit int
) returns table (id uuid, type text, queue text, finished_at timestamptz, last_error text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
declare
  v_type text := agent_vault.like_pattern(p_type);
begin
  return query
  select j.id, j.type, j.queue, j.finished_at, left(j.last_error, 200) from public.jobs j
  where j.status = 'failed' and not coalesce(j.outcome @> '{"reason": "cancelled"}', false)
    and j.finished_at >= coalesce(p_since, '-infinity') and j.finished_at < coalesce(p_until, 'infinity')
    and (p_queue is null or j.queue = p_queue) and (v_type is null or j.type ilike v_type)
    and (p_error is null or strpos(lower(j.last_error), lower(p_error)) > 0)
  order by j.finished_at, j.id limit p_limit;
end
$$;
