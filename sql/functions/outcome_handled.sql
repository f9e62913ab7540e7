-- An outcome that says how the agent handled the event ('read' or 'acknowledged'); as it is where that is null.
create or replace function agent_vault.outcome_handled(p_outcome jsonb, p_how text) returns jsonb
language sql immutable security definer set search_path = pg_catalog, pg_temp as $$
  select case when p_how is null then p_outcome
    else case when jsonb_typeof(p_outcome) = 'object' then p_outcome - 'reason' else '{}' end
      || jsonb_build_object('handled', p_how) end
$$;
