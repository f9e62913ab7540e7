-- The delivery as jsonb, for the convenience of those who read metadata. What Composio says of a connected
-- account can hold its tokens (in state, data and params), so that stays out. Raises a data exception for what jsonb cannot hold.
create or replace function agent_vault.read_json(p_type text, p_body bytea) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  v_document jsonb := convert_from(p_body, 'UTF8')::jsonb;
begin
  if p_type like 'composio.connected\_account.%' then
    return v_document #- '{data,state}' #- '{data,data}' #- '{data,params}';
  end if;
  return v_document;
end
$$;
