-- A learning as the HTTP API shows it. Where p_whole is true and the body could not become jsonb, it stands there as
-- base64, since a text of this database may not hold it either (see sql/events.py). Where p_whole is false, a raw payload
-- beyond 64 KB is left out of a list; joined with nothing it is measured unpacked, since before 18 pg_column_size is
-- that of the compressed value.
create or replace function agent_vault.read_learning(p_learning public.agent_learnings, p_whole boolean) returns jsonb
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object(
    'id', p_learning.id, 'created_at', p_learning.created_at, 'updated_at', p_learning.updated_at,
    'learning', p_learning.learning, 'category', p_learning.category, 'kind', p_learning.kind,
    'visibility', p_learning.visibility, 'source', p_learning.source, 'tags', p_learning.tags,
    'confidence', p_learning.confidence, 'event_id', p_learning.event_id,
    'handled_at', p_learning.handled_at, 'handled_how', p_learning.handled_how,
    'metadata', case
      when p_whole or jsonb_typeof(p_learning.metadata) <> 'object'
        or pg_column_size(p_learning.metadata || '{}') < 65536
      then p_learning.metadata
      else p_learning.metadata - 'raw_payload' || '{"raw_payload_omitted": true}' end)
    || case when p_whole and agent_vault.body_is_apart(p_learning)
      then jsonb_build_object('raw_base64', encode(p_learning.raw_body, 'base64')) else '{}' end
$$;
