-- The payload of an event's job, which existing workers know: what the agent is told and which learning to read, and no
-- word of the event. Neither security definer nor a search_path: so it becomes part of the statement that calls it, which
-- has both.
create or replace function agent_vault.job_payload(p_type text, p_learning_id uuid, p_received_at timestamptz)
returns jsonb language sql stable as $$
  select pg_catalog.jsonb_build_object(
    'text', 'New Composio trigger (' || p_type || '). Check latest composio_trigger learnings.',
    'learning_id', p_learning_id, 'trigger_name', p_type, 'timestamp', p_received_at)
$$;
