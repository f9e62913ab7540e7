-- Trigger: keeps a job that somebody else's plain insert or update touched within reach of a claim:
-- queued again means due now or later and nobody's, processing always has a lease that can lapse, and a finished job
-- says when it ended, by which it is listed and pruned. A finished job that a person queues by hand is as fresh as after
-- requeue_job: no late answer to its old claim settles it.
create or replace function agent_vault.keep_claimable() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if new.status = 'queued' then
    if new.run_at < now() or old.status in ('done', 'failed') or new.awaits_handling then
      new.run_at := greatest(new.run_at, now());
      new.locked_by := null;
      new.lease_until := null;
      new.awaits_handling := false;
    end if;
    if old.status in ('done', 'failed') then
      new.attempts := 0;
      new.lapses := 0;
      new.finished_at := null;
      new.outcome := null;
    end if;
  elsif new.status = 'processing' then
    if new.lease_until is null then
      new.lease_until := now() + interval '15 minutes';
      new.finished_at := null;
    end if;
  elsif new.finished_at is null then
    new.lease_until := null;
    new.awaits_handling := false;
    new.finished_at := clock_timestamp();
  end if;
  return new;
end
$$;
