-- What leases need to outlive crashes: which daemon has which name, and which jobs lapsed under a worker before.

-- lapses: how often a worker died (or fell silent) with this job; such a job is claimed alone
alter table public.jobs
  add column if not exists lapses int not null default 0;

-- a daemon's name is a promise that it alone has the leases under it. locked: its listening session holds the
-- advisory lock of the name, which the server lets go the moment the session ends. silence_s: without a pulse for so
-- long it is taken for dead
create table if not exists agent_vault.daemons (
  name text primary key,
  instance text not null,
  queues text[] not null,
  locked boolean not null,
  silence_s double precision not null,
  started_at timestamptz not null default now(),
  seen_at timestamptz not null default now()
);
alter table agent_vault.daemons enable row level security;

-- claim_jobs gains columns and arguments at the end of its lists, which its callers do not notice
drop function if exists agent_vault.claim_jobs(text, text, int, double precision, timestamptz);
drop function if exists agent_vault.lease_jobs(text, text, int, double precision, boolean, timestamptz);
