-- Queues up to p_limit events whose job the database refused when they came; answers how many got one, how many were
-- refused again, and why the last of these. One that is refused again waits as long as it is old, at most a day, so
-- that it neither holds up the others nor is tried all the time. What was not recorded as an event is never touched.
create or replace function agent_vault.sweep_learnings(p_limit int)
returns table (queued int, refused int, error text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '2s' as $$
declare
  v_ids uuid[];
  v_id uuid;
begin
  queued := 0;
  refused := 0;
  v_ids := array(
    select l.id from public.agent_learnings l
    where l.event_id is not null and l.queued_at is null and coalesce(l.sweep_at, l.created_at) <= now()
    order by coalesce(l.sweep_at, l.created_at) limit p_limit
    for update skip locked);
  if cardinality(v_ids) > 0 then
    begin
      queued := agent_vault.queue_learnings(v_ids, false);
    exception when others then
      if agent_vault.is_passing(sqlstate) then
        raise;
      end if;
      foreach v_id in array v_ids loop
        begin
          queued := queued + agent_vault.queue_learnings(array[v_id], false);
        exception when others then
          if agent_vault.is_passing(sqlstate) then
            raise;
          end if;
          refused := refused + 1;
          error := sqlstate || ': ' || sqlerrm;
          update public.agent_learnings l
          set sweep_at = now() + least(greatest(now() - l.created_at, interval '1 minute'), interval '1 day')
          where l.id = v_id;
        end;
      end loop;
    end;
  end if;
  return next;
end
$$;
