-- Ends a job as done, as complete_jobs does. Raises JB001 when the claim is over.
create or replace function agent_vault.complete_job(
  p_job_id uuid, p_claims int, p_outcome jsonb, p_since_delivery_s double precision,
  p_claimed_at timestamptz default null
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
begin
  perform agent_vault.complete_jobs(array[p_job_id], array[p_claims], p_outcome, p_since_delivery_s, array[p_claimed_at]);
  if not found then
    perform agent_vault.lease_lost(p_job_id, p_claims);
  end if;
end
$$;
