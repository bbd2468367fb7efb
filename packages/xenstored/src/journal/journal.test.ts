import { spawn } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import fc from 'fast-check';
import { createLogger } from '@xenhost/daemon-kit';
import { XenstoreClient } from '@xenhost/xenstore-client';
import { XsOp } from '@xenhost/xs-wire';
import { XenstoreCore } from '../core/core.ts';
import type { RingState } from '../server/ring.ts';
import { compact } from './compact.ts';
import { Journal } from './journal.ts';
import { FRAME_BYTES, MAGIC, RecordWriter, changesOf, payloadAt, ringStateOf } from './record.ts';
import type { JournalChange } from './record.ts';
import type { Sessions } from './replay.ts';

const COMPACT_MIN_BYTES = 2 * 1024 * 1024;
const log = createLogger('journal-test', { level: 'silent' });
const options = { incarnation: 'this one', sync: false };

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'xh-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

const latin1 = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString('latin1'));
const domid = fc.nat(0x7fef);
const u32 = fc.nat(0xffffffff);
const access = fc.constantFrom('none', 'read', 'write', 'both');
const perms = fc.array(
  fc.oneof(fc.record({ domid, access }), fc.record({ domid: fc.integer(), access, stale: fc.constant(true) })),
  { maxLength: 4 },
);
const change = fc.oneof(
  fc.record({ op: fc.constant('incarnation'), id: latin1 }),
  fc.record({ op: fc.constant('reset') }),
  fc.record({ op: fc.constant('create'), path: latin1, value: latin1, perms }),
  fc.record({ op: fc.constant('write'), path: latin1, value: latin1 }),
  fc.record({ op: fc.constant('perms'), path: latin1, perms }),
  fc.record({ op: fc.constant('rm'), path: latin1 }),
  fc.record({ op: fc.constant('special'), name: latin1, perms }),
  fc.record({ op: fc.constant('introduce'), domid, mfn: latin1, port: u32 }),
  fc.record({ op: fc.constant('release'), domid }),
  fc.record({ op: fc.constant('target'), domid, target: domid }),
  fc.record({
    op: fc.constant('watches'),
    domid,
    watches: fc.array(fc.record({ path: latin1, token: latin1, relative: fc.boolean() }), { maxLength: 3 }),
  }),
  fc.record({ op: fc.constant('done'), domid, reqCons: u32 }),
  fc.record({ op: fc.constant('ring'), domid, reqCons: u32, rspProd: u32, head: latin1, tail: latin1 }),
) as fc.Arbitrary<JournalChange>;

describe('records', () => {
  test('come back as they were written', () => {
    fc.assert(
      fc.property(fc.array(fc.array(change, { maxLength: 5 }), { maxLength: 5 }), (records) => {
        const writer = new RecordWriter();
        for (const record of records) writer.append(record);
        const back: JournalChange[][] = [];
        for (let at = 0; ;) {
          const payload = payloadAt(writer.bytes, at);
          if (!payload) break;
          back.push([...changesOf(payload)]);
          at += FRAME_BYTES + payload.length;
        }
        expect(back).toEqual(records);
      }),
    );
  });

  test('with a bit turned over, or cut off anywhere, are no records', () => {
    const writer = new RecordWriter();
    writer.append([{ op: 'write', path: '/a/b', value: 'v' }]);
    const bytes = Buffer.from(writer.bytes);
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const damaged = Buffer.from(bytes);
      damaged[bit >>> 3] = (damaged[bit >>> 3] ?? 0) ^ (1 << (bit & 7));
      expect(payloadAt(damaged, 0)).toBeUndefined();
    }
    for (let length = 0; length < bytes.length; length++)
      expect(payloadAt(bytes.subarray(0, length), 0)).toBeUndefined();
    expect(payloadAt(Buffer.alloc(64), 0)).toBeUndefined();
  });
});

/** A core whose changes go to a journal of this directory. */
function openStore(): { core: XenstoreCore; journal: Journal; tornBytes: number | undefined } {
  const journal: Journal = new Journal({ ...options, directory }, { log, snapshot: () => core.snapshot() });
  const gate = { introduce: () => Promise.resolve(), release: () => undefined };
  const core: XenstoreCore = new XenstoreCore({}, { gate, log: () => undefined, journal });
  const recovered = journal.recover();
  if (recovered) core.restore(recovered.changes);
  else journal.begin();
  return { core, journal, tornBytes: recovered?.tornBytes };
}

const dump = (core: XenstoreCore): JournalChange[] => [...core.snapshot()];

function write(core: XenstoreCore, path: string, value: string): void {
  const connection = core.connect();
  const payload = Buffer.from(`${path}\0${value}`, 'latin1');
  core.handle(connection, { op: XsOp.WRITE, reqId: 0, txId: 0, payload });
  core.disconnect(connection);
}

describe('a journal', () => {
  test('gives the store back after each write, wherever the last one was cut off', async () => {
    const { core, journal } = openStore();
    const states: { readonly size: number; readonly dump: JournalChange[] }[] = [];
    for (let i = 0; i < 6; i++) {
      states.push({ size: (await stat(join(directory, 'journal'))).size, dump: dump(core) });
      write(core, `/n${i % 2}/x`, String(i));
      journal.flush();
    }
    const whole = await readFile(join(directory, 'journal'));
    for (let size = states[0]?.size ?? 0; size < whole.length; size++) {
      await writeFile(join(directory, 'journal'), whole.subarray(0, size));
      const store = openStore();
      const last = states.findLast((state) => state.size <= size);
      expect(dump(store.core)).toEqual(last?.dump);
      expect(store.tornBytes).toBe(size - (last?.size ?? 0));
      store.journal.close();
    }
  });

  test('goes on behind a record that was cut off', async () => {
    const first = openStore();
    write(first.core, '/a', '1');
    first.journal.close();
    const path = join(directory, 'journal');
    await writeFile(path, Buffer.concat([await readFile(path), Buffer.from([9, 0, 0, 0, 1])]));
    const second = openStore();
    expect(second.tornBytes).toBe(5);
    write(second.core, '/b', '2');
    second.journal.close();
    const third = openStore();
    expect(third.tornBytes).toBe(0);
    expect(dump(third.core)).toEqual(dump(second.core));
    third.journal.close();
  });

  test.each([
    [
      'of another hypervisor',
      (bytes: Buffer) => Buffer.from(bytes.toString('latin1').replace('this one', 'that one'), 'latin1'),
    ],
    [
      'of another format',
      (bytes: Buffer) => Buffer.concat([Buffer.from('XENSTJ\0\x02', 'latin1'), bytes.subarray(MAGIC.length)]),
    ],
    ['that is empty', () => Buffer.alloc(0)],
  ])('%s is not used', async (_name, spoil) => {
    const first = openStore();
    const fresh = dump(first.core);
    write(first.core, '/a', '1');
    first.journal.close();
    const path = join(directory, 'journal');
    await writeFile(path, spoil(await readFile(path)));
    const second = openStore();
    expect(second.tornBytes).toBeUndefined();
    expect(dump(second.core)).toEqual(fresh);
    second.journal.close();
  });

  test('is compacted to the store it makes', async () => {
    const { core, journal } = openStore();
    for (let i = 0; i < 500; i++) write(core, `/n/${i % 10}`, String(i));
    journal.close();
    const path = join(directory, 'journal');
    const out = join(directory, 'out');
    const uptoBytes = (await stat(path)).size;
    const bytes = compact({ path, uptoBytes, out });
    expect(bytes).toBe((await stat(out)).size);
    expect(bytes).toBeLessThan(uptoBytes / 10);
    await copyFile(out, path);
    const again = openStore();
    expect(dump(again.core)).toEqual(dump(core));
    again.journal.close();
    expect(() => compact({ path, uptoBytes: bytes - 1, out })).toThrow('damaged');
  });
});

/** What the next daemon finds. */
function recovered(): { readonly store: JournalChange[]; readonly sessions: Sessions } {
  const journal = new Journal({ ...options, directory }, { log, snapshot: () => [] });
  const found = journal.recover();
  journal.close();
  if (!found) throw new Error('no journal');
  return { store: [...found.changes], sessions: found.sessions };
}

describe('a journal that is compacted at once', () => {
  const state = (reqCons: number): RingState => ({
    reqCons,
    rspProd: 0,
    head: Buffer.from(`head ${reqCons}`),
    tail: Buffer.alloc(0),
  });
  const core = new XenstoreCore(
    {},
    { gate: { introduce: () => Promise.resolve(), release: () => undefined }, log: () => undefined },
  );
  const small = {
    log,
    snapshot: () => core.snapshot(),
    sessions: () => [{ op: 'done', domid: 5, reqCons: 16 } as const],
  };

  /** Records until it is. */
  function fill(journal: Journal): number {
    for (let i = 0; ; i++) {
      const { compactions } = journal.stats;
      journal.committed([{ op: 'write', path: '/tool', value: String(i) }]);
      journal.flush();
      if (journal.stats.compactions > compactions) return i;
    }
  }

  test('is the store as it is, with all that a kill in front of the next batch has to find', async () => {
    const journal = new Journal({ ...options, directory, compactMinBytes: 4096 }, small);
    journal.begin();
    const connection = core.connect(5);
    core.addWatch(connection, '/a', 'tok', false);
    journal.watchesChanged(connection);
    for (const reqCons of [100, 200, 300]) journal.ringState(5, state(reqCons));
    journal.requestDone(5, 32);
    expect(fill(journal)).toBeGreaterThan(50);
    expect((await stat(join(directory, 'journal'))).size).toBe(journal.stats.sizeBytes);
    expect(journal.stats.sizeBytes).toBeLessThan(1024);
    journal.requestDone(5, 48);
    journal.close();
    const { store, sessions } = recovered();
    expect(store).toEqual([...core.snapshot()]);
    expect(sessions.watches.get(5)).toEqual([{ path: '/a', token: 'tok', relative: false }]);
    expect(sessions.rings.get(5)?.map(ringStateOf)).toEqual([state(200), state(300)]);
    expect(sessions.done.get(5)).toEqual([16, 32, 48]);
    core.disconnect(connection);
  });

  test('knows nothing of the session of a domain that is gone', () => {
    const journal = new Journal({ ...options, directory, compactMinBytes: 4096 }, small);
    journal.begin();
    journal.ringState(5, state(100));
    journal.committed([{ op: 'release', domid: 5 }]);
    journal.requestDone(6, 32);
    fill(journal);
    journal.close();
    const { sessions } = recovered();
    expect([...sessions.changes()]).toEqual([{ op: 'done', domid: 6, reqCons: 32 }]);
  });

  test('goes on as it is when the new file cannot be made', async () => {
    const journal = new Journal({ ...options, directory, compactMinBytes: 4096 }, small);
    journal.begin();
    await mkdir(join(directory, 'journal.new'));
    const long = 'v'.repeat(3000);
    for (const value of [long, `${long}w`]) {
      journal.committed([{ op: 'write', path: '/tool', value }]);
      journal.flush();
    }
    expect(journal.stats).toMatchObject({ compactions: 0, failures: 0 });
    journal.close();
    expect(recovered().store.at(-1)).toEqual({ op: 'write', path: '/tool', value: `${long}w` });
  });
});

describe('a daemon that is killed', () => {
  const main = join(__dirname, '..', 'main.ts');

  async function start(prefix: readonly string[] = []): Promise<{ kill(): Promise<void>; path: string }> {
    const path = join(directory, 's');
    const [command, ...args] = [
      ...prefix,
      process.execPath,
      main,
      '--no-hypervisor',
      '--socket',
      path,
      '--journal-mib',
      '2',
    ];
    const child = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, XENHOST_LOG_LEVEL: 'silent' },
    });
    const gone = new Promise<void>((resolve) => {
      child.once('exit', () => {
        resolve();
      });
    });
    await new Promise((resolve) => createInterface({ input: child.stdout }).once('line', resolve));
    return {
      path,
      kill: () => {
        child.kill('SIGKILL');
        return gone;
      },
    };
  }

  test('is followed by one that has every write it acknowledged, over compactions too', async () => {
    const value = 'v'.repeat(3000);
    let written = 0;
    for (let round = 0; round < 3; round++) {
      const daemon = await start();
      const client = await XenstoreClient.connect({ path: daemon.path });
      if (round > 0) {
        for (let i = Math.max(0, written - 50); i < written; i++) {
          expect(await client.readString(`/k/${i % 100}`)).toBe(`${i} ${value}`);
        }
      }
      const upto = written + Math.ceil(COMPACT_MIN_BYTES / value.length);
      const pending: Promise<void>[] = [];
      let acknowledged = written;
      for (let i = written; i < upto; i++) {
        pending.push(
          client.write(`/k/${i % 100}`, `${i} ${value}`).then(
            () => {
              acknowledged = i + 1;
            },
            () => undefined,
          ),
        );
        if (i % 16 === 0) await Promise.all(pending.splice(0));
      }
      await daemon.kill();
      await Promise.all(pending);
      written = acknowledged;
      await client.close();
    }
    expect(written).toBeGreaterThan(2 * Math.ceil(COMPACT_MIN_BYTES / value.length));
    // The last daemon began with a journal no longer than its store.
    expect((await stat(join(directory, 'journal'))).size).toBeLessThan(2 * COMPACT_MIN_BYTES);
  }, 60_000);

  test('while its journal is compacted goes on, and so does the journal', async () => {
    const daemon = await start();
    const client = await XenstoreClient.connect({ path: daemon.path });
    const value = 'v'.repeat(3000);
    const size = async (): Promise<number> => (await stat(join(directory, 'journal'))).size;
    let written = 0;
    const writeSome = async (): Promise<void> => {
      const some = Array.from({ length: 100 }, (_, i) => client.write(`/k/${i}`, `${written + i} ${value}`));
      await Promise.all(some);
      written += some.length;
    };
    while ((await size()) < COMPACT_MIN_BYTES) await writeSome();
    let before = 0;
    for (let now = await size(); now >= before; now = await size()) {
      before = now;
      await writeSome();
    }
    await writeSome();
    await daemon.kill();
    await client.close();
    const next = await start();
    const again = await XenstoreClient.connect({ path: next.path });
    for (let i = 0; i < 100; i++) expect(await again.readString(`/k/${i}`)).toBe(`${written - 100 + i} ${value}`);
    await again.close();
    await next.kill();
  }, 60_000);

  test('when the disk is full goes on, and leaves no store that is old', async () => {
    // SIGXFSZ ignored: a write beyond the limit fails with EFBIG.
    const daemon = await start(['sh', '-c', 'trap "" XFSZ; ulimit -f 100; exec "$@"', 'sh']);
    const client = await XenstoreClient.connect({ path: daemon.path });
    const value = 'v'.repeat(4000);
    for (let i = 0; i < 100; i++) await client.write('/k', `${i} ${value}`);
    expect(await client.readString('/k')).toBe(`99 ${value}`);
    await expect(stat(join(directory, 'journal'))).rejects.toMatchObject({ code: 'ENOENT' });
    await daemon.kill();
    await client.close();
    const next = await start();
    const again = await XenstoreClient.connect({ path: next.path });
    expect(await again.exists('/k')).toBe(false);
    await again.close();
    await next.kill();
  });
});
