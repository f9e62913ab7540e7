-- One job by its id; no row when there is none.
create or replace function agent_vault.show_job(p_job_id uuid, p_with_payload boolean) returns setof jsonb
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select agent_vault.read_job(j, p_with_payload) from public.jobs j where j.id = p_job_id
$$;
