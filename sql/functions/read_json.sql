-- The delivery as jsonb, for the convenience of those who read metadata. The state of an expired account can hold
-- its tokens, so it stays out. Raises a data exception for what jsonb cannot hold.
create or replace function agent_vault.read_json(p_type text, p_body bytea) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  v_document jsonb := convert_from(p_body, 'UTF8')::jsonb;
begin
  if p_type = 'composio.connected_account.expired' then
    return v_document #- '{data,state}';
  end if;
  return v_document;
end
$$;
