-- The roles of least privilege, one for each kind of login; runs after privileges.sql at the end of every migrate. They
-- may execute what is listed here and have no right on any table. Where the migrating role may not make roles, it says
-- so, and all else works without them. docs/least-privilege.md tells how to run with them.
-- Some are there for vaults and daemons of earlier releases, and this one calls them no more: record_events, get_learning,
-- complete_job with a claim, fail_job, retry_job and release_job. handle_event is there for other people's workers.

do $$
declare
  v_may_create constant boolean := (select rolsuper or rolcreaterole from pg_roles where rolname = current_user);
  v_missing text[] := '{}';
  v_kind record;
  v_role text;
  v_is_wide boolean;
  v_one record;
begin
  for v_kind in
    select * from (values
      ('server', array['schema_version', 'record_events', 'record_batch', 'list_learnings', 'search_learnings',
        'get_learning', 'read_event', 'handle_event', 'handle_events', 'sweep_learnings', 'prune_jobs', 'prune_learnings',
        'find_unserved', 'claim_next_job', 'complete_job(uuid, text, text)']),
      ('daemon', array['schema_version', 'pulse', 'take_name', 'keep_name', 'leave_name', 'claim_jobs',
        'release_unheld', 'extend_jobs', 'complete_job(uuid, integer, jsonb, double precision, timestamp with time zone)', 'complete_jobs',
        'complete_jobs_each', 'fail_job', 'fail_jobs', 'retry_job', 'retry_jobs', 'release_job', 'release_jobs', 'await_handling',
        'drop_jobs', 'failed_unhandled', 'awaiting_until', 'resend_unhandled', 'recent_wakes', 'list_events',
        'read_event', 'handle_event',
        'handle_events']),
      ('operator', array['schema_version', 'count_open', 'list_jobs', 'show_job', 'find_failed', 'requeue_job',
        'requeue_jobs', 'cancel_job', 'find_events', 'replay_learnings'])
    ) as k (kind, functions)
  loop
    v_role := agent_vault.role_name(v_kind.kind);
    if not exists (select from pg_roles where rolname = v_role) then
      if not v_may_create then
        v_missing := v_missing || v_role;
        continue;
      end if;
      execute format('create role %I nologin', v_role);
    end if;

    execute format('revoke all on schema agent_vault from %I', v_role);
    -- somebody made it, or changed it
    v_is_wide := exists (
      select from pg_roles
      where rolname = v_role and (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication));
    if v_is_wide then
      raise warning 'the role % may more than it should (superuser, bypassrls, createrole, createdb or replication) '
        'and was given nothing: take these from it and migrate again', quote_ident(v_role);
    else
      execute format('grant usage on schema agent_vault to %I', v_role);
    end if;
    execute format('revoke all on public.jobs, public.agent_learnings from %I', v_role);
    execute format('revoke all on all tables in schema agent_vault from %I', v_role);
    for v_one in
      select p.oid::regprocedure as fn, p.proname, p.proname || '(' || oidvectortypes(p.proargtypes) || ')' as signature
      from pg_proc p
      where p.pronamespace = 'agent_vault'::regnamespace
        or p.oid in ('public.claim_next_job(text)'::regprocedure, 'public.complete_job(uuid, text, text)'::regprocedure)
    loop
      execute format('revoke all on function %s from %I', v_one.fn, v_role);
      if not v_is_wide and (v_one.proname = any(v_kind.functions) or v_one.signature = any(v_kind.functions)) then
        execute format('grant execute on function %s to %I', v_one.fn, v_role);
      end if;
    end loop;
  end loop;

  if cardinality(v_missing) > 0 then
    raise warning '% may not create roles, so there is no %: have a role with createrole create these (nologin) and '
      'migrate again; without them only agent-vault grant does not work',
      quote_ident(current_user), array_to_string(v_missing, ', ');
  end if;
end
$$;
