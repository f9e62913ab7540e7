-- Puts a job back to be tried again, as retry_jobs does, and answers the status that it got. Raises JB001 when the
-- claim is over.
create or replace function agent_vault.retry_job(
  p_job_id uuid, p_claims int, p_delay_s double precision, p_error text, p_outcome jsonb,
  p_claimed_at timestamptz default null
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
declare
  v_status text := (
    select r.status
    from agent_vault.retry_jobs(
      array[p_job_id], array[p_claims], p_delay_s, p_error, p_outcome, array[p_claimed_at]) r);
begin
  if v_status is null then
    perform agent_vault.lease_lost(p_job_id, p_claims);
  end if;
  return v_status;
end
$$;
