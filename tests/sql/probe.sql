-- What the model of the queue needs of a test's own database, beside the functions that it tests.
create schema probe;

-- Time passes: every time that a job, a learning or a daemon's name holds moves into the past. In the role of a replica no trigger
-- sees it, so to the functions under test it looks as if the clock had moved on.
create function probe.pass_time(p_seconds double precision) returns void
language plpgsql set session_replication_role = replica as $$
declare
  v_table regclass;
  v_moves text;
begin
  for v_table, v_moves in
    select a.attrelid, string_agg(format('%1$I = %1$I - make_interval(secs => $1)', a.attname), ', ')
    from pg_attribute a
    where a.attrelid = any('{public.jobs, public.agent_learnings, agent_vault.daemons}'::regclass[])
      and a.atttypid = 'timestamptz'::regtype and not a.attisdropped
    group by a.attrelid
  loop
    execute format('update %s set %s', v_table, v_moves) using p_seconds;
  end loop;
end
$$;

-- Which of these claims could be settled now, and by which call. Nothing of it lasts.
create function probe.can_settle(p_job_ids uuid[], p_claims int[], p_claimed_at timestamptz[])
returns table (place int, call text)
language plpgsql as $$
declare
  job_id uuid;
  claims int;
  claimed_at timestamptz;
begin
  for job_id, claims, claimed_at, place in
    select * from unnest(p_job_ids, p_claims, p_claimed_at) with ordinality
  loop
    foreach call in array array['complete', 'fail', 'retry', 'release'] loop
      begin
        case call
          when 'complete' then perform agent_vault.complete_job(job_id, claims, '{}', 0, claimed_at);
          when 'fail' then perform agent_vault.fail_job(job_id, claims, '', '{}', claimed_at);
          when 'retry' then perform agent_vault.retry_job(job_id, claims, 0, '', '{}', claimed_at);
          when 'release' then perform agent_vault.release_job(job_id, claims, 0, '', claimed_at);
        end case;
        raise exception using errcode = 'TS001';
      exception
        when sqlstate 'JB001' then null;
        when sqlstate 'TS001' then return next;
      end;
    end loop;
  end loop;
end
$$;

-- How many jobs would stay unfinished if every worker died now, time passed, and one that lives claimed and completed
-- whatever it was given. Nothing of it lasts.
create function probe.count_stuck() returns bigint
language plpgsql as $$
declare
  v_queue text;
  v_stuck bigint;
begin
  perform probe.pass_time(86400);
  for v_queue in select j.queue from public.jobs j loop
    perform agent_vault.complete_job(c.id, c.claims, '{}', 0)
    from agent_vault.claim_jobs(v_queue, 'alive/1', 1, 60) c;
  end loop;
  select count(*) into v_stuck from public.jobs j where j.status not in ('done', 'failed');
  raise exception using errcode = 'TS001';
exception
  when sqlstate 'TS001' then return v_stuck;
end
$$;
