-- Deletes up to p_limit jobs that ended so (done or failed) more than p_days ago, the longest ago first; answers how
-- many. One caller at a time: whoever comes second is answered 0.
create or replace function agent_vault.prune_jobs(p_status text, p_days int, p_limit int) returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '2s' as $$
declare
  v_ids uuid[];
  v_pruned int;
begin
  if p_days < 1 or p_status not in ('done', 'failed') then
    raise exception 'only jobs that are done or failed are pruned, and after a day at the least'
      using errcode = 'invalid_parameter_value';
  end if;
  if not pg_try_advisory_xact_lock(hashtextextended('agent_vault.prune', 0)) then
    return 0;
  end if;
  v_ids := array(
    select j.id from public.jobs j
    where j.status = p_status and j.status in ('done', 'failed') and j.finished_at < now() - make_interval(days => p_days)
    order by j.finished_at limit p_limit
    for update skip locked);
  if cardinality(v_ids) = 0 then
    return 0;
  end if;
  delete from public.jobs j where j.id = any(v_ids);
  get diagnostics v_pruned = row_count;
  return v_pruned;
end
$$;
