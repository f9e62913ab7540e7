-- An install made by an earlier schema file, with rows in every status, columns of the user's own, a policy, and
-- functions that anybody with the public key may call.

create table public.jobs (
  id uuid primary key default gen_random_uuid(),
  type text not null,
  payload jsonb default '{}',
  status text not null default 'queued' check (status in ('queued', 'processing', 'done', 'failed')),
  locked_at timestamptz,
  locked_by text,
  attempts int not null default 0,
  last_error text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index idx_jobs_claim on public.jobs (status, created_at) where status = 'queued';
alter table public.jobs enable row level security;
create policy "Service role can manage jobs" on public.jobs for all using (true) with check (true);

create table public.agent_learnings (
  id uuid primary key default gen_random_uuid(),
  created_at timestamptz default now(),
  updated_at timestamptz default now(),
  project text,
  learning text not null,
  category text,
  kind text,
  visibility text,
  source text,
  tags text[],
  importance int not null default 3,
  confidence real,
  metadata jsonb
);

create function public.claim_next_job(p_worker_id text) returns setof public.jobs
language plpgsql security definer as $$
declare
  v_id uuid;
begin
  select id into v_id from public.jobs where status = 'queued' order by created_at limit 1 for update skip locked;
  return query update public.jobs
  set status = 'processing', locked_at = now(), locked_by = p_worker_id, attempts = attempts + 1, updated_at = now()
  where id = v_id returning *;
end
$$;

create function public.complete_job(p_job_id uuid, p_status text, p_last_error text default null) returns void
language plpgsql security definer as $$
begin
  update public.jobs set status = p_status, last_error = p_last_error, updated_at = now() where id = p_job_id;
end
$$;

grant execute on function public.claim_next_job(text) to anon, authenticated, service_role;
grant execute on function public.complete_job(uuid, text, text) to anon, authenticated, service_role;

insert into public.jobs (id, type, payload, status, locked_at, locked_by, attempts, last_error, created_at, updated_at)
values
  ('00000000-0000-4000-8000-000000000001', 'GMAIL_NEW_GMAIL_MESSAGE', '{"text": "one"}', 'queued',
    null, null, 0, null, '2025-01-01 08:00+00', '2025-01-01 08:00+00'),
  ('00000000-0000-4000-8000-000000000002', 'chat', '{"text": "two"}', 'queued',
    '2025-01-01 08:01+00', 'mac', 9, 'given back', '2025-01-01 07:00+00', '2025-01-01 08:05+00'),
  ('00000000-0000-4000-8000-000000000003', 'chat', '{"text": "three"}', 'processing',
    '2025-01-01 08:02+00', 'mac', 2, null, '2025-01-01 08:02+00', '2025-01-01 08:02+00'),
  ('00000000-0000-4000-8000-000000000004', 'chat', null, 'processing',
    null, null, 0, null, '2025-01-01 08:03+00', '2025-01-01 08:03+00'),
  ('00000000-0000-4000-8000-000000000005', 'chat', '{"text": "five"}', 'done',
    '2025-01-01 08:04+00', 'mac', 1, null, '2025-01-01 08:04+00', '2025-01-01 08:04+00'),
  ('00000000-0000-4000-8000-000000000006', 'chat', '[6]', 'failed',
    '2025-01-01 08:05+00', 'mac', 3, 'no answer', '2025-01-01 08:05+00', '2025-01-01 08:05+00');

insert into public.agent_learnings
  (id, created_at, updated_at, project, learning, category, kind, visibility, source, tags, confidence, metadata)
values
  ('00000000-0000-4000-8000-000000000011', '2025-01-01 08:00+00', '2025-01-01 08:00+00', null,
    'Composio trigger: GMAIL_NEW_GMAIL_MESSAGE', 'composio_trigger', null, null, 'composio_webhook',
    '{ca_1,GMAIL_NEW_GMAIL_MESSAGE}', 1.0,
    '{"raw_payload": {"trigger_name": "gmail_new_gmail_message", "connection_id": "ca_1", "trigger_id": "ti_1",
      "payload": {"subject": "Quarterly figures"}}}'),
  ('00000000-0000-4000-8000-000000000012', '2025-01-01 09:00+00', null, 'home', 'The owner drinks tea.', 'preference',
    'fact', 'private', 'agent', '{tea}', 0.8, '{"raw_payload": "not a delivery"}'),
  ('00000000-0000-4000-8000-000000000013', null, null, null, 'Nothing else is known of this one.',
    null, null, null, null, null, null, null);
