-- Trigger: keeps a job that somebody else's plain insert or update touched within reach of a claim:
-- queued again means due now or later, processing always has a lease that can lapse.
create or replace function agent_vault.keep_claimable() returns trigger
language plpgsql set search_path = '' as $$
begin
  if new.status = 'queued' then
    new.run_at := greatest(new.run_at, now());
  elsif new.lease_until is null then
    new.lease_until := now() + interval '15 minutes';
  end if;
  return new;
end
$$;
