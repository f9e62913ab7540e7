-- Raises JB001: the lease that a worker wants to settle is no longer its own.
create or replace function agent_vault.lease_lost(p_job_id uuid, p_claims int) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'lease lost: claim % of job % is over', p_claims, p_job_id
    using errcode = 'JB001', hint = 'another worker has the job, or a person settled it: drop it';
end
$$;
