-- What it takes to know that the agent handled an event, and to send it again when it did not.

-- awaits_handling: the gateway took it, and it is leased to nobody until the agent handles it or lease_until is over
alter table public.jobs
  add column if not exists awaits_handling boolean not null default false;

-- handled_how: 'read', 'acknowledged' or 'dropped'; null beside a time for what was done before this was kept
alter table public.agent_learnings
  add column if not exists handled_at timestamptz,
  add column if not exists handled_how text;

-- once only: what was delivered before anybody kept count is not new, and since then that is the agent's to say
do $$
begin
  if not exists (select from agent_vault.migrations where version >= 4) then
    update public.agent_learnings set queue = 'default' where event_id is not null and queue is null;
    update public.agent_learnings l set handled_at = now()
    where l.event_id is not null and l.queued_at is not null and l.handled_at is null
      and not exists (select from public.jobs j where j.learning_id = l.id and j.status <> 'done');
  end if;
end
$$;

create index if not exists agent_learnings_new on public.agent_learnings (queue, created_at)
  where event_id is not null and handled_at is null;

-- claim_jobs gains a column at the end of its list, which its callers do not notice
drop function if exists agent_vault.claim_jobs(
  text, text, int, double precision, timestamptz, boolean, timestamptz);
