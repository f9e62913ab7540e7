-- The delivery as jsonb, for the convenience of those who read metadata. What Composio says of a connected account can
-- hold its tokens in any of its keys, so only these few, which cannot, are kept. Raises a data exception for what
-- jsonb cannot hold.
create or replace function agent_vault.read_json(p_type text, p_body bytea) returns jsonb
language plpgsql immutable security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_document jsonb := convert_from(p_body, 'UTF8')::jsonb;
begin
  if p_type not like 'composio.connected\_account.%' then
    return v_document;
  end if;
  return jsonb_build_object(
    'id', v_document -> 'id', 'type', v_document -> 'type', 'timestamp', v_document -> 'timestamp',
    'metadata', v_document -> 'metadata',
    'data', jsonb_strip_nulls(jsonb_build_object(
      'id', v_document #> '{data,id}', 'status', v_document #> '{data,status}',
      'status_reason', v_document #> '{data,status_reason}', 'user_id', v_document #> '{data,user_id}',
      'toolkit', v_document #> '{data,toolkit,slug}', 'created_at', v_document #> '{data,created_at}',
      'updated_at', v_document #> '{data,updated_at}')));
end
$$;
