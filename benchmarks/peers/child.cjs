// The side of a peer of local/child.py: says in a line of JSON that it is ready, answers each line, ends
// when its standard input does.

const readline = require("node:readline");

console.log = console.info = console.error; // standard output is for answers

/** Listen on a free port of loopback and serve until standard input ends. */
exports.serve = (server) =>
  server.listen(0, "127.0.0.1", () => {
    const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);
    say({ url: `http://127.0.0.1:${server.address().port}` });
    readline
      .createInterface({ input: process.stdin })
      .on("line", () => {
        const { user, system } = process.cpuUsage();
        say({ cpu_ms: (user + system) / 1000 });
      })
      .on("close", () => process.exit(0));
  });
