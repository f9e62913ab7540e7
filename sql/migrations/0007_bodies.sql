-- A delivery's raw body is kept as it came: compressing it cost Postgres as much as all the rest of a small event's
-- insert, and seconds for a large one. What is there already stays as it is.
alter table public.agent_learnings alter column raw_body set storage external;
