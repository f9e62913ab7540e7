-- Ends a job as failed, as fail_jobs does. Raises JB001 when the claim is over.
create or replace function agent_vault.fail_job(
  p_job_id uuid, p_claims int, p_error text, p_outcome jsonb, p_claimed_at timestamptz default null
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
begin
  perform agent_vault.fail_jobs(array[p_job_id], array[p_claims], p_error, p_outcome, array[p_claimed_at]);
  if not found then
    perform agent_vault.lease_lost(p_job_id, p_claims);
  end if;
end
$$;
