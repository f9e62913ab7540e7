-- What confines the login of one machine's daemon to its name and its queues.

-- name: of the login and of its daemon both, so that it is also a role's
create table if not exists agent_vault.logins (
  name text primary key constraint logins_name_check check (name ~ '^[a-z][a-z0-9_-]{0,62}$'),
  queues text[] not null constraint logins_queues_check check (cardinality(queues) > 0),
  granted_at timestamptz not null default now()
);

alter table agent_vault.logins enable row level security;
alter table agent_vault.migrations enable row level security;
