// pg-boss with LISTEN/NOTIFY, and as many fetches as there are jobs: https://pgboss.io/api/workers
const net = require("node:net");
const { PgBoss } = require("pg-boss");
const { poster } = require("./post.cjs");

const QUEUE = "post";
const BATCH = 100;
const [mode, place, ...rest] = process.argv.slice(2);

// a line with a number on this connection enqueues so many jobs, and is answered once they are committed
function take(boss, socket) {
  socket.on("data", async (line) => {
    const jobs = Array.from({ length: Number(line) }, () => ({ data: { text: rest[0] } }));
    await (jobs.length === 1 ? boss.send(QUEUE, jobs[0].data) : boss.insert(QUEUE, jobs));
    socket.write("done\n");
  });
}

async function main() {
  const boss = new PgBoss({ ...JSON.parse(place), useListenNotify: true });
  boss.on("error", console.error);
  await boss.start();
  if (mode === "install") {
    await boss.createQueue(QUEUE, { notify: true });
    await boss.stop();
  } else if (mode === "produce") {
    const server = net.createServer({ noDelay: true }, (socket) => take(boss, socket));
    server.listen(0, "127.0.0.1", () => console.log("port", server.address().port));
  } else {
    const [url, concurrency] = rest;
    const post = poster(url, Number(concurrency));
    const options = { batchSize: BATCH, pollingIntervalSeconds: 0.5, burstWhenBatchFull: true };
    await boss.work(QUEUE, options, (jobs) => Promise.all(jobs.map((job) => post(job.data.text))));
    console.log("running");
  }
}

main();
