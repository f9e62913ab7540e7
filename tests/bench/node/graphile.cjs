// graphile-worker with the settings of https://worker.graphile.org/docs/performance: a local queue, and batched ends.
const { run, runMigrations } = require("graphile-worker");
const { pool, poster } = require("./post.cjs");

const [mode, place, url, concurrency] = process.argv.slice(2);

async function main() {
  const pgPool = pool(place);
  if (mode === "install") {
    await runMigrations({ pgPool });
    await pgPool.end();
    return;
  }
  const post = poster(url, Number(concurrency));
  await run({
    pgPool,
    taskList: { post: ({ text }) => post(text) },
    preset: {
      worker: {
        concurrentJobs: Number(concurrency),
        maxPoolSize: Number(concurrency) + 1,
        localQueue: { size: 500 },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
      },
    },
  });
  console.log("running");
}

main();
