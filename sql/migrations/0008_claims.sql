-- A claim no longer waits for the disk, so a crash may forget it and give its number away again: what ends a claim shows
-- also when it was made. Callers may leave that out, and claim_jobs answers it at the end of its list.
drop function if exists agent_vault.claim_jobs(text, text, int, double precision, timestamptz, boolean, timestamptz);
drop function if exists agent_vault.hold_jobs(uuid[], int[]);
drop function if exists agent_vault.complete_job(uuid, int, jsonb, double precision);
drop function if exists agent_vault.complete_jobs(uuid[], int[], jsonb, double precision);
drop function if exists agent_vault.complete_jobs_each(uuid[], int[], jsonb[], double precision[]);
drop function if exists agent_vault.drop_jobs(uuid[], int[], jsonb);
drop function if exists agent_vault.fail_job(uuid, int, text, jsonb);
drop function if exists agent_vault.fail_jobs(uuid[], int[], text, jsonb);
drop function if exists agent_vault.retry_job(uuid, int, double precision, text, jsonb);
drop function if exists agent_vault.retry_jobs(uuid[], int[], double precision, text, jsonb);
drop function if exists agent_vault.release_job(uuid, int, double precision, text);
drop function if exists agent_vault.release_jobs(uuid[], int[], double precision, text);
drop function if exists agent_vault.await_handling(uuid[], int[], jsonb, double precision, double precision);

-- keep_name answers at the end of its list whether the queues are shared
drop function if exists agent_vault.keep_name(text, text, text[], boolean);

-- claim_jobs does by itself what this did
drop function if exists agent_vault.lease_jobs(text, text, int, double precision, boolean, timestamptz, boolean);
