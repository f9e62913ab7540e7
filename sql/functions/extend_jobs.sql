-- Extends the leases of a worker by p_lease_s seconds from now and answers which it still holds. A lease that lapsed
-- while claims stood still is revived: a sleep or an outage of the database spends nothing.
create or replace function agent_vault.extend_jobs(
  p_worker text, p_job_ids uuid[], p_claims int[], p_lease_s double precision
) returns setof uuid
language plpgsql security definer set search_path = '' set enable_seqscan = off set lock_timeout = '8s' as $$
begin
  return query
  update public.jobs j set
    status = 'processing',
    lease_until = now() + make_interval(secs => p_lease_s),
    updated_at = now()
  from unnest(p_job_ids, p_claims) as held (id, claims)
  where j.id = any(p_job_ids) and j.id = held.id and j.claims = held.claims and j.locked_by = p_worker
    and j.status in ('processing', 'queued')
  returning j.id;
end
$$;
