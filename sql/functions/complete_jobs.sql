-- Ends jobs that went out together as done, as complete_jobs_each does: all with one outcome and one age.
create or replace function agent_vault.complete_jobs(
  p_job_ids uuid[], p_claims int[], p_outcome jsonb, p_since_delivery_s double precision,
  p_claimed_at timestamptz[] default null
) returns setof uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set jit = off set lock_timeout = '4s' as $$
declare
  v_many constant int[] := array[coalesce(cardinality(p_job_ids), 0)];
begin
  return query select agent_vault.complete_jobs_each(
    p_job_ids, p_claims, array_fill(p_outcome, v_many), array_fill(p_since_delivery_s, v_many), p_claimed_at);
end
$$;
