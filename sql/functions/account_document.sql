-- What is kept as jsonb of a delivery about a connected account, for those who read metadata: any of its keys can hold
-- tokens but these few. Raises a data exception for what jsonb cannot hold.
create or replace function agent_vault.account_document(p_body bytea) returns jsonb
language plpgsql immutable security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_document jsonb := convert_from(p_body, 'UTF8')::jsonb;
begin
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
