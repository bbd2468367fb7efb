/**
 * The core of xenstored alone, without sockets: CPU time of an operation, from the bytes of its packet to the bytes of its reply, and what
 * trees of many nodes cost. Medians of some rounds.
 *   --rounds N     default 5
 *   --only TEXT    rows whose name has it
 */
import { parseArgs } from 'node:util';
import { XsOp, XsPacketParser, encodeXsPacket } from '@xenhost/xs-wire';
import type { XsOpName } from '@xenhost/xs-wire';
import { XenstoreCore } from '../../packages/xenstored/src/core/core.ts';
import type { StoreConnection } from '../../packages/xenstored/src/core/connection.ts';
import { median } from '../lib/figures.ts';

const { values: args } = parseArgs({ options: { rounds: { type: 'string', default: '5' }, only: { type: 'string' } } });
const ROUNDS = Number(args.rounds);
const OPERATIONS = 100_000;

const newCore = (): XenstoreCore =>
  new XenstoreCore(
    {},
    { gate: { introduce: () => Promise.resolve(), release: () => undefined }, log: () => undefined },
  );

class Client {
  readonly connection: StoreConnection;
  readonly #core: XenstoreCore;
  readonly #parser = new XsPacketParser();

  constructor(core: XenstoreCore, connection = core.connect()) {
    this.#core = core;
    this.connection = connection;
  }

  /** One request; the bytes that came back. */
  send(packet: Uint8Array): Buffer {
    for (const each of this.#parser.push(packet)) this.#core.handle(this.connection, each);
    return this.connection.output.take();
  }

  ask(op: XsOpName, payload: string, txId = 0): Buffer {
    return this.send(encodeXsPacket(XsOp[op], 1, txId, payload));
  }
}

/** CPU microseconds of a run. */
function cpuUs(run: () => void): number {
  const before = process.cpuUsage();
  run();
  const { user, system } = process.cpuUsage(before);
  return user + system;
}

const PATH = '/local/domain/17/device/vbd/51712/state';

interface Row {
  readonly name: string;
  readonly unit: string;
  /** One figure; called once a round. */
  measure(): number;
}

/** A row of CPU time per operation of packets sent over and over. */
function perOperation(name: string, prepare: (client: Client, core: XenstoreCore) => () => void): Row {
  return {
    name,
    unit: 'us CPU each',
    measure: () => {
      const core = newCore();
      const client = new Client(core);
      client.ask('WRITE', `${PATH}\x004`);
      const step = prepare(client, core);
      for (let i = 0; i < OPERATIONS / 10; i++) step();
      return (
        cpuUs(() => {
          for (let i = 0; i < OPERATIONS; i++) step();
        }) / OPERATIONS
      );
    },
  };
}

/** A row of CPU time of one request on a tree made before. */
function once(name: string, prepare: (client: Client, core: XenstoreCore) => () => void): Row {
  return {
    name,
    unit: 'ms CPU',
    measure: () => {
      const core = newCore();
      const client = new Client(core);
      return cpuUs(prepare(client, core)) / 1000;
    },
  };
}

const packet = (op: XsOpName, payload: string, txId = 0): Buffer => encodeXsPacket(XsOp[op], 1, txId, payload);

function wide(client: Client, nodes: number, at = '/wide'): void {
  for (let i = 0; i < nodes; i++) client.ask('WRITE', `${at}/node-${i}\0value`);
}

const ROWS: readonly Row[] = [
  perOperation('read', (client) => {
    const request = packet('READ', `${PATH}\0`);
    return () => client.send(request);
  }),
  perOperation('read of 1,000 paths', (client) => {
    const requests = Array.from({ length: 1000 }, (_, i) => {
      client.ask('WRITE', `/local/domain/${i}/device/vbd/51712/state\x004`);
      return packet('READ', `/local/domain/${i}/device/vbd/51712/state\0`);
    });
    let i = 0;
    return () => client.send(requests[i++ % requests.length] ?? Buffer.alloc(0));
  }),
  perOperation('read of nothing', (client) => {
    const request = packet('READ', `/local/domain/17/device/vif/0/state\0`);
    return () => client.send(request);
  }),
  perOperation('write', (client) => {
    const request = packet('WRITE', `${PATH}\x005`);
    return () => client.send(request);
  }),
  perOperation('write of 2000 bytes', (client) => {
    const request = packet('WRITE', `${PATH}\0${'x'.repeat(2000)}`);
    return () => client.send(request);
  }),
  perOperation('mkdir and rm', (client) => {
    const make = packet('MKDIR', '/local/domain/17/new\0');
    const remove = packet('RM', '/local/domain/17/new\0');
    return () => {
      client.send(make);
      client.send(remove);
    };
  }),
  perOperation('directory of 5', (client) => {
    wide(client, 5);
    const request = packet('DIRECTORY', '/wide\0');
    return () => client.send(request);
  }),
  perOperation('empty transaction', (client) => {
    const start = packet('TRANSACTION_START', '\0');
    return () => {
      const id = Number.parseInt(client.send(start).toString('latin1', 16));
      client.ask('TRANSACTION_END', 'T\0', id);
    };
  }),
  perOperation('read-modify-write transaction', (client) => {
    const start = packet('TRANSACTION_START', '\0');
    return () => {
      const id = Number.parseInt(client.send(start).toString('latin1', 16));
      client.ask('READ', `${PATH}\0`, id);
      client.ask('WRITE', `${PATH}\x006`, id);
      client.ask('TRANSACTION_END', 'T\0', id);
    };
  }),
  perOperation('write to event', (client, core) => {
    const other = new Client(core);
    other.ask('WATCH', '/local/domain/17/device\0token\0');
    const request = packet('WRITE', `${PATH}\x005`);
    return () => {
      client.send(request);
      other.connection.output.take();
    };
  }),
  perOperation('one guest of 20 reads', (client, core) => {
    const guests = Array.from({ length: 20 }, (_, i) => {
      const domid = i + 1;
      client.ask('WRITE', `/local/domain/${domid}/data\0value`);
      client.ask('SET_PERMS', `/local/domain/${domid}/data\0n0\0r${domid}\0`);
      return new Client(core, core.connect(domid));
    });
    const request = packet('READ', 'data\0');
    let i = 0;
    return () => guests[i++ % guests.length]?.send(request);
  }),
  once('create 10,000 nodes', (client) => () => {
    wide(client, 10_000);
  }),
  once('rm of 10,000 nodes', (client) => {
    wide(client, 10_000);
    return () => client.ask('RM', '/wide\0');
  }),
  once('rm of 10,000 nodes in 100 directories, 128 watches', (client, core) => {
    for (let i = 0; i < 100; i++) wide(client, 99, `/wide/dir-${i}`);
    const watcher = new Client(core);
    for (let i = 0; i < 128; i++) watcher.ask('WATCH', `/wide/dir-${i % 100}/node-${i % 99}\0${i}\0`);
    watcher.connection.output.take();
    return () => client.ask('RM', '/wide\0');
  }),
  once('rm of 1,000 nodes, 128 watches on it', (client, core) => {
    wide(client, 1000);
    const watcher = new Client(core);
    for (let i = 0; i < 128; i++) watcher.ask('WATCH', `/wide\0${i}\0`);
    watcher.connection.output.take();
    return () => client.ask('RM', '/wide\0');
  }),
  once('10,000 children in parts', (client) => {
    wide(client, 10_000);
    return () => {
      for (let offset = 0; ;) {
        const reply = client.ask('DIRECTORY_PART', `/wide\0${offset}\0`);
        const names = reply.subarray(reply.indexOf(0, 16) + 1);
        offset += names.length;
        if (names.length < 3000) return;
      }
    };
  }),
  once('death of a domain of 20 nodes among 10,000', (client, core) => {
    manyDomains(client, 10_000);
    return () => {
      core.domainGone(5000);
    };
  }),
  once('check of 200,000 nodes', (client, core) => {
    manyDomains(client, 10_000);
    return () => {
      core.checkAccounts();
    };
  }),
  {
    name: 'memory of 10,000 domains of 20 nodes',
    unit: 'MiB heap',
    measure: () => {
      const before = heapMiB();
      const core = newCore();
      manyDomains(new Client(core), 10_000);
      const used = heapMiB() - before;
      core.checkAccounts();
      return used;
    },
  },
];

/** 20 nodes each, as a toolstack makes them. */
function manyDomains(client: Client, domains: number): void {
  for (let domid = 1; domid <= domains; domid++) {
    const home = `/local/domain/${domid}`;
    client.ask('MKDIR', `${home}\0`);
    client.ask('SET_PERMS', `${home}\0n${domid}\0`);
    for (const leaf of [
      'name',
      'vm',
      'memory/target',
      'console/ring-ref',
      'console/port',
      'console/limit',
      'cpu/0/availability',
    ]) {
      client.ask('WRITE', `${home}/${leaf}\0value-${domid}`);
    }
    for (const leaf of ['backend', 'backend-id', 'state', 'virtual-device', 'ring-ref', 'event-channel']) {
      client.ask('WRITE', `${home}/device/vbd/${leaf}\0value-${domid}`);
    }
  }
}

function heapMiB(): number {
  globalThis.gc?.();
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / 2 ** 20;
}

for (const row of ROWS) {
  if (args.only !== undefined && !row.name.includes(args.only)) continue;
  const figures = Array.from({ length: row.unit.startsWith('MiB') ? 1 : ROUNDS }, () => row.measure());
  const figure = median(figures);
  process.stdout.write(`${row.name.padEnd(54)} ${figure.toFixed(2).padStart(9)} ${row.unit}\n`);
}
process.stdout.write(`RSS ${(process.memoryUsage().rss / 2 ** 20).toFixed(0)} MiB\n`);
