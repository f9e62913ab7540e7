-- Tells whether an error is nobody's fault and passes by itself: a lost connection, a read-only standby, a deadlock, a
-- lack of resources, a time-out, an operator. Any other is the fault of the row.
create or replace function agent_vault.is_passing(p_sqlstate text) returns boolean
language sql immutable security definer set search_path = pg_catalog, pg_temp as $$
  select p_sqlstate ~ '^(08|25|40|53|55|57|58|XX)'
$$;
