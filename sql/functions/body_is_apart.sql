-- Whether the body of an event is to be had from its bytes alone, for jsonb could not hold it, and may be shown. What
-- speaks of a connected account can hold its tokens, and stays hidden.
create or replace function agent_vault.body_is_apart(p_learning public.agent_learnings) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select case
    when p_learning.event_id is null or p_learning.raw_body is null or p_learning.metadata ? 'raw_payload' then false
    when octet_length(p_learning.raw_body) > 134217728 then false  -- in base64 no jsonb would hold it
    else coalesce(p_learning.metadata ->> 'trigger_name', '') not like 'composio.connected\_account.%'
      and strpos(lower(encode(p_learning.raw_body, 'escape') collate "C"), 'composio.connected_account.') = 0
  end
$$;
