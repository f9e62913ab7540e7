-- Create the two tables, or adopt those of an existing install in place: no row is lost, none is queued anew.
-- Every statement may run twice and changes nothing the second time.

create schema if not exists agent_vault;

create table if not exists agent_vault.migrations (
  version int primary key,
  name text not null,
  functions_digest text,
  applied_at timestamptz not null default now()
);

create table if not exists public.jobs (
  id uuid primary key default gen_random_uuid(),
  type text not null,
  payload jsonb default '{}'::jsonb,
  status text not null default 'queued' check (status in ('queued', 'processing', 'done', 'failed')),
  locked_at timestamptz,
  locked_by text,
  attempts int not null default 0,
  last_error text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

-- what delivery needs; learning_id is neither unique nor a foreign key, since a replay has a second job.
-- fenced: the latest claim must show its number (claims) to settle; false for the old claim_next_job
alter table public.jobs
  add column if not exists queue text not null default 'default'
    constraint jobs_queue_check check (queue ~ '^[a-z0-9_]{1,40}$'),
  add column if not exists run_at timestamptz not null default now(),
  add column if not exists lease_until timestamptz,
  add column if not exists claims int not null default 0,
  add column if not exists max_attempts int not null default 5,
  add column if not exists fenced boolean not null default false,
  add column if not exists delivered_at timestamptz,
  add column if not exists finished_at timestamptz,
  add column if not exists outcome jsonb,
  add column if not exists learning_id uuid;

-- an adopted worker may still be at it: it gets the lease that claim_next_job gives
update public.jobs
set lease_until = now() + interval '15 minutes', claims = greatest(claims, attempts, 1)
where status = 'processing' and lease_until is null;

create index if not exists jobs_queued on public.jobs (queue, run_at, created_at) where status = 'queued';
create index if not exists jobs_leased on public.jobs (queue, lease_until) where status = 'processing';
create index if not exists jobs_learning on public.jobs (learning_id, created_at) where learning_id is not null;
drop index if exists public.idx_jobs_claim; -- jobs_queued serves every claim now

create table if not exists public.agent_learnings (
  id uuid primary key default gen_random_uuid(),
  created_at timestamptz default now(),
  updated_at timestamptz default now(),
  learning text not null
);

-- raw_body is the delivery as it was signed; queued_at is set by the statement that inserts the job, so that
-- adopted rows (no event_id) and rows whose job was pruned never look unqueued
alter table public.agent_learnings
  add column if not exists category text,
  add column if not exists kind text,
  add column if not exists visibility text,
  add column if not exists source text,
  add column if not exists tags text[],
  add column if not exists confidence real,
  add column if not exists metadata jsonb,
  add column if not exists event_id text,
  add column if not exists raw_body bytea,
  add column if not exists queued_at timestamptz,
  alter column id set default gen_random_uuid(),
  alter column created_at set default now(),
  alter column updated_at set default now();

create unique index if not exists agent_learnings_event_id on public.agent_learnings (event_id)
  where event_id is not null;
create index if not exists agent_learnings_newest on public.agent_learnings (created_at desc, id);

-- some installs made the table without a primary key
do $$
begin
  if not exists (select from pg_constraint where conrelid = 'public.agent_learnings'::regclass and contype = 'p') then
    begin
      alter table public.agent_learnings add constraint agent_learnings_pkey primary key (id);
    exception when unique_violation or not_null_violation then
      raise warning 'public.agent_learnings has rows without an id of their own: it keeps a plain index on id';
      create index if not exists agent_learnings_id on public.agent_learnings (id);
    end;
  end if;
end
$$;

alter table public.jobs enable row level security;
alter table public.agent_learnings enable row level security;
