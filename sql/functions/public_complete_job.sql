-- The completion that existing workers know: it shows no claim number, so it acts only on a job whose latest claim
-- came from claim_next_job and which is not finished; else it changes nothing. 'queued' gives the job back.
create or replace function public.complete_job(p_job_id uuid, p_status text, p_last_error text default null)
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '4s' as $$
begin
  if p_status is null or p_status not in ('done', 'failed', 'queued') then
    raise exception 'status % is unknown: say done, failed or queued', coalesce(quote_literal(p_status), 'null')
      using errcode = 'invalid_parameter_value';
  end if;
  update public.jobs j set
    status = p_status,
    run_at = case when p_status = 'queued' then now() else j.run_at end,
    locked_by = case when p_status = 'queued' then null else j.locked_by end,
    awaits_handling = false,
    lease_until = null,
    delivered_at = case when p_status = 'done' then clock_timestamp() else j.delivered_at end,
    finished_at = case when p_status = 'queued' then null else clock_timestamp() end,
    last_error = p_last_error,
    updated_at = now()
  where j.id = p_job_id and not j.fenced and j.claims > 0 and j.locked_by is not null
    and j.status in ('processing', 'queued');
end
$$;
