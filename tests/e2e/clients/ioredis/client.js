// ioredis's Cluster under the contract of clients/README.md.
'use strict';

const assert = require('node:assert');
const { Cluster } = require('ioredis');

const PARALLEL = 50;

function connect(addrs) {
  const nodes = addrs.split(',').map((addr) => {
    const [host, port] = addr.split(':');
    return { host, port: Number(port) };
  });
  const client = new Cluster(nodes, {
    retryDelayOnFailover: 20,
    retryDelayOnClusterDown: 20,
    clusterRetryStrategy: () => 50,
    redisOptions: { commandTimeout: 4000 },
  });
  // A node that is gone is the point of the test; the commands' own results are what counts.
  client.on('error', () => {});
  client.on('node error', () => {});
  return client;
}

async function inParallel(items, action) {
  for (let at = 0; at < items.length; at += PARALLEL) {
    await Promise.all(items.slice(at, at + PARALLEL).map(action));
  }
}

async function overPrimaries(client, action) {
  return Promise.all(client.nodes('master').map(action));
}

async function scan(node) {
  const found = [];
  let cursor = '0';
  do {
    const [next, keys] = await node.scan(cursor, 'COUNT', 100);
    found.push(...keys);
    cursor = next;
  } while (cursor !== '0');
  return found;
}

async function check(client, count) {
  const keys = Array.from({ length: count }, (_, n) => `check:${n}`).sort();
  await inParallel(keys, async (key) => assert.equal(await client.set(key, key), 'OK'));
  await inParallel(keys, async (key) => assert.equal(await client.get(key), key));
  const sizes = await overPrimaries(client, (node) => node.dbsize());
  assert.equal(sizes.reduce((a, b) => a + b, 0), count);
  const listed = (await overPrimaries(client, (node) => node.keys('*'))).flat().sort();
  assert.deepEqual(listed, keys);
  const scanned = (await overPrimaries(client, scan)).flat();
  assert.deepEqual([...new Set(scanned)].sort(), keys);
  await overPrimaries(client, (node) => node.flushall());
  const left = await overPrimaries(client, (node) => node.dbsize());
  assert.equal(left.reduce((a, b) => a + b, 0), 0);
}

async function hammer(client, seconds) {
  const acknowledged = [];
  let errors = 0;
  let longest = 0;
  let last = Date.now();
  const until = last + seconds * 1000;
  for (let record = 1; Date.now() < until; record++) {
    try {
      await client.set(`hammer:${record}`, record);
      acknowledged.push(record);
      longest = Math.max(longest, Date.now() - last);
      last = Date.now();
    } catch {
      errors++;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
  let lost = 0;
  await inParallel(acknowledged, async (record) => {
    if ((await client.get(`hammer:${record}`)) !== String(record)) lost++;
  });
  return { acknowledged: acknowledged.length, errors, lost, longest_pause_ms: longest };
}

async function main() {
  const [addrs, verb, amount] = process.argv.slice(2);
  const client = connect(addrs);
  if (verb === 'check') {
    await check(client, Number(amount));
    console.log('ok');
  } else {
    console.log(JSON.stringify(await hammer(client, Number(amount))));
  }
  client.disconnect();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
