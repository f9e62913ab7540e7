-- A person's second chance for many failed jobs, as requeue_job gives it to one; answers how many were failed.
create or replace function agent_vault.requeue_jobs(p_job_ids uuid[]) returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '8s' as $$
begin
  -- in order, so that two who ask for the same jobs wait for each other and do not deadlock
  return (select count(*) filter (where agent_vault.requeue_job(i.id))
    from (select u.id from unnest(p_job_ids) as u (id) order by u.id) i);
end
$$;
