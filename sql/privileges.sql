-- Who may do what; runs at the end of every migrate, in its transaction. Execute is taken from everyone and given to
-- service_role; row level security stays on, with no policy of ours but service_role's. With agent_vault.keep_anon on,
-- the public key, which is the role anon, keeps the two old functions, for a worker that still uses it.

do $$
declare
  v_keep_anon boolean := coalesce(current_setting('agent_vault.keep_anon', true), '') = 'on'
    and exists (select from pg_roles where rolname = 'anon');
  v_public text[] := array(
    select quote_ident(rolname) from pg_roles where rolname in ('anon', 'authenticated') order by rolname) || 'public'::text;
  v_has_service boolean := exists (select from pg_roles where rolname = 'service_role');
  v_one record;
begin
  for v_one in
    select c.oid::regclass as tbl, p.polname as policy from pg_policy p join pg_class c on c.oid = p.polrelid
    where c.oid in ('public.jobs'::regclass, 'public.agent_learnings'::regclass)
      and p.polname <> 'agent_vault_service'
      and (p.polroles = '{0}'
        or p.polroles && array(select oid from pg_roles where rolname in ('anon', 'authenticated', 'service_role')))
  loop
    execute format('drop policy %I on %s', v_one.policy, v_one.tbl);
    raise notice 'replaced the policy % on %', quote_ident(v_one.policy), v_one.tbl;
  end loop;

  for v_one in
    select p.oid::regprocedure as fn, p.pronamespace = 'public'::regnamespace as is_old from pg_proc p
    where p.pronamespace = 'agent_vault'::regnamespace
      or p.oid in ('public.claim_next_job(text)'::regprocedure, 'public.complete_job(uuid, text, text)'::regprocedure)
  loop
    execute format('revoke all on function %s from %s', v_one.fn, array_to_string(v_public, ', '));
    if v_keep_anon and v_one.is_old then
      execute format('grant execute on function %s to anon', v_one.fn);
    end if;
    if v_has_service then
      execute format('grant execute on function %s to service_role', v_one.fn);
    end if;
  end loop;
  execute format('revoke all on public.jobs, public.agent_learnings from %s', array_to_string(v_public, ', '));
  execute format('revoke all on all tables in schema agent_vault from %s', array_to_string(v_public, ', '));
  execute format('revoke all on schema agent_vault from %s', array_to_string(v_public, ', '));

  if v_keep_anon then
    raise warning 'anon keeps execute on claim_next_job and complete_job: anyone with the public key can take jobs';
  end if;
  if v_has_service then
    grant usage on schema agent_vault to service_role;
    grant select, insert, update on public.jobs, public.agent_learnings to service_role;
    for v_one in select unnest(array['public.jobs', 'public.agent_learnings'])::regclass as tbl loop
      if not exists (select from pg_policy where polrelid = v_one.tbl and polname = 'agent_vault_service') then
        execute format('create policy agent_vault_service on %s to service_role using (true) with check (true)', v_one.tbl);
      end if;
    end loop;
  end if;
end
$$;
