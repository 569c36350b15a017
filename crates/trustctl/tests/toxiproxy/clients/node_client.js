// All functions of npm's toxiproxy-node-client, and what its users lean on.

"use strict";

const assert = require("node:assert/strict");
const net = require("node:net");
const { after, beforeEach, test } = require("node:test");
const { Proxy, Toxic, Toxiproxy } = require("toxiproxy-node-client");

// By name, which node takes for ::1 first.
const toxiproxy = new Toxiproxy("http://localhost:8474");

// How late an echo may be on an idle machine, and how often it may be later on a busy one.
const LATE_MS = 10;
const TRIES = 10;

// A server on a free port that echoes, and closes as its clients do.
const upstream = net.createServer({ noDelay: true }, (peer) => {
  peer.on("error", () => peer.destroy());
  peer.pipe(peer);
});
const sockets = new Set();

async function listening() {
  if (!upstream.listening) {
    await new Promise((resolve) => upstream.listen(0, "127.0.0.1", resolve));
  }
  return `localhost:${upstream.address().port}`;
}

async function removeAll() {
  const proxies = Object.values(await toxiproxy.getAll());
  await Promise.all(proxies.map((proxy) => proxy.remove()));
}

beforeEach(removeAll);

after(async () => {
  await removeAll();
  sockets.forEach((socket) => socket.destroy());
  upstream.close();
});

async function create(name = "p") {
  return toxiproxy.createProxy({ name, listen: "localhost:0", upstream: await listening() });
}

/** Connects to where a proxy listens; fails with the code of an error. */
function connect(listen) {
  const [host, port] = listen.split(":");
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host, port: Number(port), noDelay: true });
    sockets.add(socket);
    socket.once("connect", () => resolve(socket));
    socket.once("error", reject);
    socket.on("error", () => {});
  });
}

/** How long a byte and its echo take, in ms; fails if the connection ends instead. */
function echo(socket) {
  const began = process.hrtime.bigint();
  return new Promise((resolve, reject) => {
    const end = () => reject(new Error("an end in place of an echo"));
    socket.once("close", end);
    socket.resume();
    socket.once("data", () => {
      socket.removeListener("close", end);
      resolve(Number(process.hrtime.bigint() - began) / 1e6);
    });
    socket.write("x");
  });
}

/** Resolves when the connection has ended; fails if data comes before. */
function ends(socket) {
  return new Promise((resolve, reject) => {
    socket.once("data", (data) => reject(new Error(`${data.length} bytes in place of an end`)));
    if (socket.closed) {
      resolve();
    } else {
      socket.once("close", () => resolve());
      socket.resume();
    }
  });
}

async function checkLatency(socket, expected) {
  const times = [];
  for (let tried = 0; tried < TRIES; tried += 1) {
    const took = await echo(socket);
    assert.ok(took >= expected, `${took} ms, before ${expected} ms`);
    if (took <= expected + LATE_MS) {
      return;
    }
    times.push(took);
  }
  assert.fail(`${Math.min(...times)} ms at best in place of ${expected} ms`);
}

const latency = (name, ms) => ({
  name,
  type: "latency",
  stream: "downstream",
  toxicity: 1,
  attributes: { latency: ms, jitter: 0 },
});

const isRefused = (listen) => assert.rejects(connect(listen), { code: "ECONNREFUSED" });

const failsWith = (promise, status) =>
  assert.rejects(promise, { message: `Request failed with status code ${status}` });

test("the version is one that clients know", async () => {
  assert.deepEqual(JSON.parse(await toxiproxy.getVersion()), { version: "2.12.0" });
  assert.equal(typeof toxiproxy.getApi().get, "function");
});

test("a proxy is created, found, listed and removed", async () => {
  const created = await create();
  assert.ok(created instanceof Proxy);
  assert.match(created.listen, /^127\.0\.0\.1:[1-9][0-9]*$/);
  assert.equal(created.getToxiproxy(), toxiproxy);
  assert.equal(created.getHost(), "http://localhost:8474");
  assert.equal(created.getPath(), "http://localhost:8474/proxies/p");
  const expected = { name: "p", listen: created.listen, enabled: true };
  expected.upstream = await listening();
  for (const proxy of [created, await toxiproxy.get("p"), (await toxiproxy.getAll()).p]) {
    assert.deepEqual(proxy.toJson(), expected);
  }
  const socket = await connect(created.listen);
  await echo(socket);
  const ended = ends(socket);
  await created.remove();
  await ended;
  await isRefused(created.listen);
  assert.deepEqual(await toxiproxy.getAll(), {});
});

test("a list is populated twice, and the same proxies stay", async () => {
  const list = ["a", "b"].map((name) => ({ name, listen: "localhost:0" }));
  for (const entry of list) {
    entry.upstream = await listening();
  }
  assert.deepEqual(await toxiproxy.populate([]), {});
  const first = await toxiproxy.populate(list);
  assert.deepEqual(Object.keys(first), ["a", "b"]);
  const socket = await connect(first.a.listen);
  await echo(socket);
  await first.a.addToxic(latency("slow", 20));
  const second = await toxiproxy.populate(list);
  assert.equal(second.a.listen, first.a.listen);
  assert.equal((await second.a.getToxic("slow")).attributes.latency, 20);
  await checkLatency(socket, 20);
});

test("a disabled proxy refuses, and an enabled one has its port and toxics", async () => {
  const proxy = await create();
  await proxy.addToxic(latency("slow", 100));
  const socket = await connect(proxy.listen);
  await checkLatency(socket, 100);
  // What modules do that wrap this one: they repeat where it listens.
  const { listen, upstream: to } = proxy;
  const ended = ends(socket);
  const disabled = await proxy.update({ enabled: false, listen, upstream: to });
  assert.equal(disabled.enabled, false);
  await ended;
  await isRefused(listen);
  const enabled = await disabled.update({ enabled: true, listen, upstream: to });
  assert.deepEqual([enabled.enabled, enabled.listen], [true, listen]);
  await checkLatency(await connect(listen), 100);
});

test("a proxy on all interfaces keeps its connections when its place is repeated", async () => {
  const all = { name: "all", listen: "0.0.0.0:0", upstream: await listening() };
  const proxy = await toxiproxy.createProxy(all);
  const port = proxy.listen.split(":").pop();
  const socket = await connect(`127.0.0.1:${port}`);
  await echo(socket);
  const listen = `0.0.0.0:${port}`;
  await proxy.update({ enabled: true, listen, upstream: all.upstream });
  await echo(socket);
});

test("toxics are added, found, changed and removed", async () => {
  const proxy = await create();
  const socket = await connect(proxy.listen);
  await echo(socket);
  const one = await proxy.addToxic(latency("one", 100));
  assert.ok(one instanceof Toxic);
  assert.deepEqual(one.toJson(), latency("one", 100));
  assert.equal(one.getPath(), "http://localhost:8474/proxies/p/toxics/one");
  await checkLatency(socket, 100);
  const two = await proxy.addToxic(latency("two", 100));
  await checkLatency(socket, 200);
  const changed = await two.update({ attributes: { latency: 50, jitter: 0 }, toxicity: 1 });
  assert.deepEqual(changed.toJson(), latency("two", 50));
  assert.deepEqual((await proxy.getToxic("two")).toJson(), latency("two", 50));
  await checkLatency(socket, 150);
  await one.remove();
  await checkLatency(socket, 50);
});

test("a timeout closes connections when it is removed", async () => {
  const proxy = await create();
  const socket = await connect(proxy.listen);
  await echo(socket);
  const toxic = await proxy.addToxic({ type: "timeout", attributes: { timeout: 0 } });
  assert.deepEqual([toxic.name, toxic.stream], ["timeout_downstream", "downstream"]);
  socket.write("lost");
  const ended = ends(socket);
  await toxic.remove();
  await ended;
  await echo(await connect(proxy.listen));
});

test("a reset enables all and removes toxics", async () => {
  const proxy = await create();
  await proxy.addToxic(latency("slow", 5000));
  await proxy.update({ enabled: false, listen: proxy.listen, upstream: proxy.upstream });
  await toxiproxy.reset();
  assert.equal((await toxiproxy.get("p")).enabled, true);
  await failsWith(proxy.getToxic("slow"), 404);
  await checkLatency(await connect(proxy.listen), 0);
});

test("errors are those of the client", async () => {
  const proxy = await create();
  await failsWith(create(), 409);
  await failsWith(toxiproxy.get("none"), 404);
  await failsWith(toxiproxy.createProxy({ name: "none" }), 400);
  await failsWith(toxiproxy.populate([{ name: "none" }]), 400);
  await failsWith(proxy.addToxic({ type: "none" }), 400);
  await failsWith(proxy.addToxic({ type: "bandwidth", attributes: { rate: -1 } }), 400);
  await proxy.addToxic({ type: "noop" });
  await failsWith(proxy.addToxic({ type: "noop" }), 409);
  await failsWith(proxy.getToxic("none"), 404);
  await proxy.remove();
  await failsWith(proxy.remove(), 404);
});
