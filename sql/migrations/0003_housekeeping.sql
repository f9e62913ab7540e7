-- What dead letters, replays, the sweeper and the pruning need.

-- replay: a person put this job in beside the event's own, from its learning
alter table public.jobs
  add column if not exists replay boolean not null default false;

-- queue: where the event's job belongs, also while there is none. sweep_at: when the sweeper tries again to queue a
-- job that the database refused
alter table public.agent_learnings
  add column if not exists queue text,
  add column if not exists sweep_at timestamptz;

update public.agent_learnings l set queue = j.queue
from public.jobs j
where j.learning_id = l.id and l.event_id is not null and l.queue is null;

-- an adopted job says nothing of its end but when it changed last
update public.jobs set finished_at = updated_at where status in ('done', 'failed') and finished_at is null;

create index if not exists jobs_finished on public.jobs (status, finished_at) where status in ('done', 'failed');
create index if not exists agent_learnings_events on public.agent_learnings (created_at, id) where event_id is not null;
create index if not exists agent_learnings_unqueued on public.agent_learnings ((coalesce(sweep_at, created_at)))
  where event_id is not null and queued_at is null;
