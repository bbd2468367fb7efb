/** What `hostile` does to the daemon. Domain 5 attacks; tools `0x` do, too. */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { assert } from '@xenhost/testkit';
import { XsOp, encodeXsPacket } from '@xenhost/xs-wire';
import { Random } from '../cpu/random.ts';
import { RawRing } from './raw-ring.ts';
import { text } from './wire.ts';
import type { World } from './world.ts';

export interface Attack {
  readonly name: string;
  readonly run: (world: World) => Promise<void>;
}

const ATTACKER = 5;
const RING_BYTES = 1024;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const tryDial = (world: World): Promise<Socket | undefined> =>
  new Promise((resolve, reject) => {
    const socket = connect(world.daemon.socket);
    socket.once('error', (error: NodeJS.ErrnoException) => {
      // So many wait to be accepted that the system takes no more.
      if (error.code === 'EAGAIN') resolve(undefined);
      else reject(error);
    });
    socket.once('connect', () => {
      socket.on('error', () => undefined);
      resolve(socket);
    });
  });

async function dial(world: World): Promise<Socket> {
  for (;;) {
    const socket = await tryDial(world);
    if (socket) return socket;
    await pause(5);
  }
}

function header(op: number, length: number): Buffer {
  const bytes = Buffer.alloc(16);
  for (const [i, word] of [op, 1, 0, length].entries()) bytes.writeUInt32LE(word, 4 * i);
  return bytes;
}

/** Sends and resolves once the daemon has hung up. */
async function dropped(world: World, bytes: Uint8Array): Promise<void> {
  const socket = await dial(world);
  const gone = new Promise((resolve) => socket.once('close', resolve));
  socket.resume();
  socket.write(bytes);
  await gone;
}

/** Domain 5 on a ring that nothing serves but the attack itself. */
async function bareRing(world: World, domid = ATTACKER): Promise<RawRing> {
  await world.addGuest(domid, 'bare');
  return new RawRing(world.daemon.directory, domid);
}

/** The daemon tells a guest that it ignores it. */
async function isIgnored(ring: RawRing, why: string): Promise<void> {
  for (let i = 0; i < 100 && ring.get('error') === 0; i++) await pause(20);
  assert(ring.get('error') !== 0, `served on in spite of ${why}`);
}

/** Sends many requests at once and waits for all the answers. */
async function many(
  world: World,
  who: string,
  requests: readonly (readonly [op: number, payload: string, tx?: number])[],
) {
  const client = await world.client(who);
  for (const [op, payload, tx = 0] of requests) client.send(op, tx, text(payload));
  return client.step(undefined, 0, '');
}

const numbered = <T>(count: number, make: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => make(i));

export const ATTACKS: readonly Attack[] = [
  {
    name: 'lengths of 4097, 5000 and 2^32-1',
    run: async (world) => {
      for (const length of [4097, 5000, 0x7fffffff, 0xffffffff]) await dropped(world, header(XsOp.READ, length));
      // One that is whole and right before it is answered all the same.
      await dropped(world, Buffer.concat([encodeXsPacket(XsOp.READ, 1, 0, '/tool\0'), header(XsOp.WRITE, 4097)]));
      for (const [i, length] of [4097, 0xffffffff].entries()) {
        using ring = await bareRing(world, 10 + i);
        ring.put(header(XsOp.READ, length));
        await isIgnored(ring, `a length of ${length}`);
      }
    },
  },
  {
    name: 'half headers from 1,000 clients',
    run: async (world) => {
      const sockets: Socket[] = [];
      for (let i = 0; i < 1000; i++) {
        const socket = await dial(world);
        socket.write(header(XsOp.READ, 6).subarray(0, 1 + (i % 15)));
        sockets.push(socket);
      }
      await pause(500);
      for (const socket of sockets) socket.destroy();
    },
  },
  {
    name: 'half payloads of 4 KiB from 1,000 clients',
    run: async (world) => {
      const sockets: Socket[] = [];
      for (let i = 0; i < 1000; i++) {
        const socket = await dial(world);
        socket.write(Buffer.concat([header(XsOp.WRITE, 4096), Buffer.alloc(4095)]));
        sockets.push(socket);
      }
      await pause(500);
      for (const socket of sockets) socket.destroy();
    },
  },
  {
    name: '5,000 connections, one after the other',
    run: async (world) => {
      for (let i = 0; i < 5000; i++) {
        const socket = await dial(world);
        if (i % 3 === 0) socket.write(encodeXsPacket(XsOp.WATCH, 1, 0, '/w\0t\0'));
        if (i % 3 === 1) socket.write(encodeXsPacket(XsOp.TRANSACTION_START, 1, 0, '\0'));
        socket.destroy();
      }
    },
  },
  {
    name: 'requests byte by byte',
    run: async (world) => {
      const socket = await dial(world);
      socket.resume();
      for (let i = 0; i < 30; i++)
        for (const byte of encodeXsPacket(XsOp.WRITE, i, 0, '/slow\0value')) {
          socket.write(Uint8Array.of(byte));
          if (i % 5 === 0) await pause(1);
        }
      socket.destroy();
    },
  },
  {
    name: 'rings with wild indices',
    run: async (world) => {
      const wild: readonly (readonly ['req_prod' | 'rsp_cons' | 'rsp_prod' | 'req_cons', number])[] = [
        ['req_prod', RING_BYTES + 1],
        ['req_prod', 0x80000000],
        ['req_prod', 0xffffffff],
        ['rsp_cons', 1],
        ['rsp_cons', 2],
        ['rsp_cons', 0x7fffffff],
        // The daemon's own: it must not believe what it reads there.
        ['rsp_prod', 0x12345678],
        ['req_cons', 0x12345678],
      ];
      for (const [i, [index, value]] of wild.entries()) {
        using ring = await bareRing(world, 10 + i);
        ring.set(index, value);
        for (let n = 0; n < 100; n++) ring.notify();
        ring.put(encodeXsPacket(XsOp.READ, 1, 0, 'x\0'));
        if (index === 'req_prod' || index === 'rsp_cons') await isIgnored(ring, `${index} ${value}`);
      }
    },
  },
  {
    name: 'random bytes on a ring',
    run: async (world) => {
      const random = new Random(1);
      for (let i = 0; i < 20; i++) {
        using ring = await bareRing(world, 10 + i);
        for (let n = 0; n < 20; n++) {
          ring.put(Uint8Array.from({ length: RING_BYTES }, () => random.u32() & (n % 2 === 0 ? 0xff : 0x03)));
          if (n % 4 === 0) await pause(1);
        }
      }
    },
  },
  {
    name: 'a guest that never reads its replies',
    run: async (world) => {
      using ring = await bareRing(world);
      const request = encodeXsPacket(XsOp.READ, 1, 0, '/local/domain/5\0');
      for (let n = 0; n < 5000; n++) {
        ring.put(request);
        if (n % 50 === 0) await pause(1);
      }
      const taken = ring.get('req_cons');
      await pause(100);
      assert(ring.get('req_cons') === taken, 'requests are taken without end');
      assert(ring.get('error') === 0, 'not reading is no fault');
    },
  },
  {
    name: 'a guest that rings without end',
    run: async (world) => {
      using ring = await bareRing(world);
      for (let n = 0; n < 20_000; n++) {
        ring.notify();
        if (n % 200 === 0) await pause(1);
      }
    },
  },
  {
    name: '100,000 requests whose replies nobody reads',
    run: async (world) => {
      const socket = await dial(world);
      socket.pause();
      await (await world.client('0')).ask('WRITE', '/big|{L*2000}');
      const batch = Buffer.concat(numbered(1000, (i) => encodeXsPacket(XsOp.READ, i, 0, '/big\0')));
      for (let n = 0; n < 100; n++) {
        socket.write(batch);
        await pause(5);
      }
      await pause(1000);
      socket.destroy();
    },
  },
  {
    name: '100,000 events that nobody reads',
    run: async (world) => {
      const socket = await dial(world);
      socket.pause();
      socket.write(encodeXsPacket(XsOp.WATCH, 1, 0, '/e\0token\0'));
      await pause(50);
      for (let n = 0; n < 50; n++)
        await many(
          world,
          '0',
          numbered(1000, (i) => [XsOp.WRITE, `/e/${'n'.repeat(60)}-${n}-${i}|v`]),
        );
      await many(world, '0', [[XsOp.RM, '/e|']]);
      socket.destroy();
    },
  },
  {
    name: "128 watches times an rm of a guest's 1,000 nodes",
    run: async (world) => {
      await world.addGuest(ATTACKER);
      await many(
        world,
        '5',
        numbered(128, (i) => [XsOp.WATCH, `t|token-${i}|`]),
      );
      await many(
        world,
        '5',
        numbered(990, (i) => [XsOp.MKDIR, `t/${i % 10}/n${i}|`]),
      );
      await many(world, '5', [[XsOp.RM, 't|']]);
    },
  },
  {
    name: "128 watches times an rm of a tool's 1,000 nodes",
    run: async (world) => {
      await many(
        world,
        '0a',
        numbered(128, (i) => [XsOp.WATCH, `/t|token-${i}|`]),
      );
      await many(
        world,
        '0',
        numbered(1000, (i) => [XsOp.WRITE, `/t/${i % 10}/n${i}|v`]),
      );
      await many(world, '0', [[XsOp.RM, '/t|']]);
      await many(world, '0a', []);
    },
  },
  {
    name: "a guest's 10 transactions of 1,000 nodes of 2 KiB",
    run: async (world) => {
      await world.addGuest(ATTACKER);
      await many(
        world,
        '5',
        numbered(10, () => [XsOp.TRANSACTION_START, '|']),
      );
      const guest = await world.client('5');
      for (let tx = 1; tx <= 10; tx++)
        for (let i = 0; i < 1000; i++) guest.send(XsOp.WRITE, tx, text(`n${i}|{L*2000}`));
      // At its memory quota a guest is answered no more, as with the C daemon, until something of it goes.
      const tool = await world.client('0');
      let memory = -1;
      // Where it stands still twice: not short of what it must reach, as a machine with other work may pause for long.
      for (let before = -2, tries = 0; tries < 120 && (memory !== before || memory <= 1e6); tries++) {
        await pause(500);
        before = memory;
        memory = Number(/memory\s*:\s*(\d+)/.exec(await tool.ask('CONTROL', `quota|${ATTACKER}|`))?.[1]);
      }
      assert(memory > 1e6 && memory <= 2.5 * 1024 * 1024 + 8192, `the guest holds ${memory} bytes`);
      await tool.ask('RELEASE', `${ATTACKER}|`);
      const left = await tool.ask('CONTROL', `quota|${ATTACKER}|`);
      assert(left === '!ENOENT', `after its release: ${left}`);
    },
  },
  {
    name: "a tool's 10 transactions of 1,000 nodes of 2 KiB",
    run: async (world) => {
      await many(
        world,
        '0',
        numbered(10, () => [XsOp.TRANSACTION_START, '|']),
      );
      const value = '{L*2000}';
      for (let tx = 1; tx <= 10; tx++)
        for (let part = 0; part < 10; part++)
          await many(
            world,
            '0',
            numbered(100, (i) => [XsOp.WRITE, `/x/n${100 * part + i}|${value}`, tx] as const),
          );
      for (let tx = 1; tx <= 10; tx++) await many(world, '0', [[XsOp.TRANSACTION_END, 'T|', tx]]);
      await many(world, '0', [[XsOp.RM, '/x|']]);
    },
  },
  {
    name: 'a tree as deep as a path can be',
    run: async (world) => {
      const deep = '/d'.repeat(1024);
      for (let n = 0; n < 20; n++) {
        await many(world, '0', [
          [XsOp.WATCH, `${deep}|t${n}|`],
          [XsOp.WRITE, `${deep}|bottom`],
          [XsOp.READ, `${deep}|`],
          [XsOp.WRITE, `${deep.slice(0, 100)}/side|v`],
          [XsOp.RM, '/d|'],
        ]);
      }
    },
  },
  {
    name: 'a directory of 10,000',
    run: async (world) => {
      for (let part = 0; part < 10; part++)
        await many(
          world,
          '0',
          numbered(1000, (i) => [XsOp.WRITE, `/wide/name-${1000 * part + i}|v`]),
        );
      const parts = numbered(2000, (i) => [XsOp.DIRECTORY_PART, `/wide|${(i * 64) % 140_000}|`] as const);
      await many(world, '0', parts);
      await many(world, '0', [
        [XsOp.DIRECTORY, '/wide|'],
        [XsOp.RM, '/wide|'],
      ]);
    },
  },
  {
    name: 'a tree of 100,000, removed; of 10,000, in a transaction',
    run: async (world) => {
      for (let part = 0; part < 100; part++)
        await many(
          world,
          '0',
          numbered(1000, (i) => [XsOp.MKDIR, `/huge/${part}/${i % 10}/n${i}|`]),
        );
      const inside = numbered(10, (i): readonly [number, string, number] => [XsOp.RM, `/huge/${i}|`, 1]);
      await many(world, '0', [[XsOp.TRANSACTION_START, '|'], ...inside, [XsOp.TRANSACTION_END, 'T|', 1]]);
      await many(world, '0', [[XsOp.RM, '/huge|']]);
    },
  },
  {
    name: 'random packets from 20 clients',
    run: async (world) => {
      const random = new Random(7);
      const words = [
        '/',
        '//',
        '..',
        '/a',
        '/a/b',
        'data',
        '@releaseDomain',
        '\xe4',
        'T',
        'F',
        '5',
        '0',
        'x'.repeat(3000),
      ];
      for (let n = 0; n < 20; n++) {
        const packets = numbered(1000, (): readonly [number, string, number] => {
          const payload = numbered(random.below(4), () => random.pick(words))
            .join(random.pick(['|', '', '\x01']))
            .slice(0, 4095);
          // Nothing that would introduce or release the witness.
          const op = random.pick([1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 14, 15, 16, 17, 20, 21, 22, 23, random.u32()]);
          return [op, random.chance(2) ? `${payload}|` : payload, random.below(3)];
        });
        await many(world, `0r${n}`, packets);
        await world.drop(`0r${n}`);
      }
    },
  },
  {
    name: 'random bytes from 200 clients',
    run: async (world) => {
      const random = new Random(3);
      for (let n = 0; n < 200; n++) {
        const socket = await dial(world);
        socket.resume();
        socket.write(Uint8Array.from({ length: 5000 }, () => random.u32() & (n % 2 === 0 ? 0xff : 0x01)));
        if (n % 10 === 0) await pause(5);
        socket.destroy();
      }
    },
  },
  {
    name: "a guest's writes beside a tool's transactions",
    run: async (world) => {
      using ring = await bareRing(world);
      const tool = await world.client('0');
      await tool.ask('WRITE', '/local/domain/5/contended|0');
      let stop = false;
      const write = encodeXsPacket(XsOp.WRITE, 1, 0, 'contended\0x');
      const writing = (async () => {
        while (!stop) {
          ring.put(write);
          ring.set('rsp_cons', ring.get('rsp_prod'));
          await new Promise(setImmediate);
        }
      })();
      let attempts = 0;
      for (let committed = 0; committed < 20; attempts++) {
        const id = Number((await tool.ask('TRANSACTION_START', '|')).replace('|', ''));
        await tool.ask('READ', '/local/domain/5/contended|', id);
        await tool.ask('WRITE', '/local/domain/5/contended|mine', id);
        if ((await tool.ask('TRANSACTION_END', 'T|', id)) === 'OK|') committed++;
        assert(attempts < 20_000, `only ${committed} of 20 transactions were committed in ${attempts} attempts`);
      }
      stop = true;
      await writing;
    },
  },
];
