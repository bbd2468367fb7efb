/** A machine that goes from one xend to another, and all that can keep it from getting there. */
import { readFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import type { XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { MAX_RELOCATIONS } from '../limits.ts';
import { layOutGuest, letTimePass, obeySuspend } from '../testing/saved-guest.ts';
import { settled } from '../testing/settled.ts';
import { XenApiClient } from '../testing/xen-api-client.ts';
import { config, xendFixture, type XendFixture } from '../testing/xend-fixture.ts';

const near = xendFixture();
const far = xendFixture();
const HOST = '127.0.0.1';

beforeEach(async () => {
  far.servers = [{ service: 'relocation', key: 'k', address: { host: HOST, port: 0 } }];
  await far.restart();
  letTimePass(far);
});

const until = (holds: () => boolean): Promise<void> => settled(() => Promise.resolve(holds()), true);
const portOf = (host: XendFixture): number => host.xend.portOf('relocation') ?? 0;

async function make(...more: readonly XmlRpcValue[]): Promise<void> {
  await near.call('xend.domain.create', config('g', ...more));
  await near.call('xend.domain.unpause', 'g');
  layOutGuest(near, 1);
}

/** xm's migrate while the guest obeys; the fault that it ends with. */
async function move(port = portOf(far), ...more: (number | null)[]): Promise<[number, string]> {
  const [fault] = await Promise.all([
    near.fault('xend.domain.migrate', 'g', HOST, 0, port, ...more),
    obeySuspend(near, 1),
  ]);
  return fault;
}

const isRunning = (host: XendFixture, domid: number): boolean => {
  const domain = host.xc.domains.get(domid);
  return domain?.pauses === 0 && domain.shutdownReason === undefined;
};

async function goesOnHere(): Promise<void> {
  expect(await near.names()).toEqual(['Domain-0', 'g']);
  expect(isRunning(near, 1)).toBe(true);
  expect(await near.store.readString('/local/domain/1/name')).toBe('g');
}

async function nothingOverThere(): Promise<void> {
  await far.xend.manager.settle();
  expect(await far.names()).toEqual(['Domain-0']);
  const left = async (): Promise<string[]> =>
    [...(await far.tree('/local/domain')), ...(await far.tree('/vm'))].filter(
      (line) => !/^\/(local\/domain\/0|vm\/0{8}-)/.test(line),
    );
  await settled(left, []);
}

describe('a machine that moves', () => {
  it('is there, runs, and is here no more', async () => {
    await make(['device', ['vkbd']]);
    expect(await move()).toEqual([0, 'no fault']);
    await until(() => isRunning(far, 1));
    expect([await near.names(), await far.names()]).toEqual([['Domain-0'], ['Domain-0', 'g']]);
    expect(await near.tree('/local/domain/1')).toEqual([]);
    expect(await far.store.readString('/local/domain/1/name')).toBe('g');
  });

  it('is called otherwise while it is on its way', async () => {
    await make();
    const seen: XmlRpcValue[] = [];
    far.xc.domainUnpause = async () => Promise.resolve();
    const create = far.xc.domainCreate.bind(far.xc);
    far.xc.domainCreate = async (options) => {
      seen.push(await near.names(), await near.store.readString('/local/domain/1/name'));
      return create(options);
    };
    expect(await move()).toEqual([0, 'no fault']);
    expect(seen).toEqual([['Domain-0', 'migrating-g'], 'migrating-g']);
  });

  it('is moved by the Xen-API too', async () => {
    await make();
    const api = new XenApiClient(() => near.xend.xenApi);
    await api.login();
    const [ref] = await api.ask<string[]>('VM.get_by_name_label', 'g');
    const port = String(portOf(far));
    await Promise.all([api.ask('VM.migrate', ref ?? '', HOST, false, { port }), obeySuspend(near, 1)]);
    await until(() => isRunning(far, 1));
    expect(await near.names()).toEqual(['Domain-0']);
  });

  it.each([
    [0, ['Domain-0', 'g'], false],
    [1, ['Domain-0'], true],
  ])('is managed where change_home_server %d says', async (change, listed, isManagedThere) => {
    await near.call('xend.domain.new', config('g'));
    await near.call('xend.domain.start', 'g', false);
    layOutGuest(near, 1);
    expect(await move(portOf(far), -1, null, change)).toEqual([0, 'no fault']);
    await until(() => isRunning(far, 1));
    expect(await near.names()).toEqual(listed);
    expect(far.xend.manager.find('g')?.managed).toBe(isManagedThere);
  });
});

describe('a machine that cannot go stays and runs', () => {
  it.each<[string, string, () => Promise<unknown>, XmlRpcValue[]]>([
    ['its name is taken', "Domain 'g' already exists with ID '1'", () => far.call('xend.domain.create', config('g', ['uuid', '00000000-0000-4000-8000-00000000000a'])), []],
    ['there is no memory', '(I need|Not enough)', () => far.call('xend.domain.create', ['vm', ['name', 'h'], ['memory', 200], ['image', ['linux', ['kernel', '/boot/vmlinuz']]]]), []],
  ])('%s', async (_, text, prepare, more) => {
    await prepare();
    const before = await far.names();
    await make(...more);
    expect(await move()).toEqual([2, expect.stringMatching(new RegExp(`^${text}.* \\(from 127\\.0\\.0\\.1\\)$`))]);
    await goesOnHere();
    expect(await far.names()).toEqual(before);
  }); // prettier-ignore

  it('it may not be moved', async () => {
    await make(['image', ['linux', ['kernel', '/boot/vmlinuz'], ['nomigrate', 1]]]);
    expect(await move()).toEqual([2, 'cannot restore non-migratable domain (from 127.0.0.1)']);
    await goesOnHere();
    await nothingOverThere();
  });

  it('it cannot be built there', async () => {
    await make();
    far.xc.vcpuSetcontext = () => Promise.reject(new Error('no such thing'));
    const [code, text] = await move();
    expect([code, text]).toEqual([2, expect.stringContaining('no such thing')]);
    await goesOnHere();
    await nothingOverThere();
  });

  it('nobody listens', async () => {
    await make();
    const port = portOf(far);
    await far.xend.stop();
    expect(await near.fault('xend.domain.migrate', 'g', HOST, 0, port)).toEqual([
      2,
      "can't connect: Connection refused",
    ]);
    await goesOnHere();
  });

  let server: Server | undefined;
  afterEach(() => {
    server?.close();
  });
  const play = async (script: (socket: Socket) => void): Promise<number> => {
    server = createServer((socket) => {
      socket.on('error', () => undefined);
      script(socket);
    });
    await new Promise<void>((resolve) => server?.listen(0, HOST, resolve));
    return (server.address() as AddressInfo).port;
  };

  it.each<[string, string, (socket: Socket) => void]>([
    ['it is no relocation server', "can't connect: no relocation server on 127.0.0.1", (s) => s.end('HTTP/1.1 400\n')],
    ['it closes at once', "can't connect: closed by 127.0.0.1", (s) => s.resume().end()],
    ['it refuses', 'busy (from 127.0.0.1)', (s) => s.end("(err (type X) (value 'busy'))\n")],
    ['it refuses later', 'too big (from 127.0.0.1)', (s) => { s.write('(ready receive)\n'); s.once('data', () => s.once('data', () => s.end("(err (type X) (value 'too big'))\n"))).resume(); }],
    ['it resets the connection', 'the connection to 127.0.0.1 broke: Connection reset by peer', (s) => { s.write('(ready receive)\n'); s.once('data', () => s.once('data', () => s.resetAndDestroy())); }],
    ['it leaves', '127.0.0.1 left without an answer', (s) => { s.write('(ready receive)\n'); s.once('data', () => s.once('data', () => s.end())).resume(); }],
    ['it talks nonsense', '', (s) => { s.write('(ready receive)\n'); s.once('data', () => s.once('data', () => s.write(')(\n'))).resume(); }],
  ])('%s', async (_, text, script) => {
    await make();
    const port = await play(script);
    const early = text.startsWith("can't") || text.startsWith('busy');
    const fault = early ? await near.fault('xend.domain.migrate', 'g', HOST, 0, port) : await move(port);
    expect(fault[0]).toBe(2);
    expect(fault[1]).toMatch(early || text.startsWith('too big') ? text : /broke|left/);
    await goesOnHere();
  }); // prettier-ignore
});

describe('who brings a machine', () => {
  /** A connection and the lines that come over it. */
  class Client {
    readonly socket = connect(portOf(far), HOST);
    #text = '';

    constructor() {
      this.socket.on('error', () => undefined).on('data', (data: Buffer) => (this.#text += data.toString()));
    }

    line(n: number): Promise<string> {
      return until(() => this.#text.split('\n').length > n + 1).then(() => this.#text.split('\n')[n] ?? '');
    }

    send(bytes: Uint8Array | string): void {
      this.socket.write(bytes);
    }
  }

  async function image(): Promise<Buffer> {
    await make();
    const path = join(near.directory, 'g.img');
    await Promise.all([near.call('xend.domain.save', 'g', path), obeySuspend(near, 1)]);
    return readFileSync(path);
  }

  async function bring(): Promise<Client> {
    const bytes = await image();
    const client = new Client();
    client.send('receive\n');
    expect(await client.line(0)).toBe('(ready receive)');
    client.send(bytes);
    expect(await client.line(1)).toBe('(ok)');
    expect(far.xc.domains.get(1)?.pauses).toBe(1);
    return client;
  }

  it.each<[string, (client: Client) => void]>([
    ['says so', (client) => { client.send('quit\n'); }],
    ['has no more to say', (client) => client.socket.end()],
  ])('lets it run: %s', async (_, act) => {
    act(await bring());
    await until(() => isRunning(far, 1));
  }); // prettier-ignore

  it('takes it back', async () => {
    (await bring()).send('cancel\n');
    await until(() => !far.xc.domains.has(1));
    await until(() => far.xend.manager.find('g') === undefined);
    await nothingOverThere();
  });

  it('falls silent before it lets go: the machine stays, paused', async () => {
    const client = await bring();
    client.socket.resetAndDestroy();
    await far.xend.stop();
    expect(far.xc.domains.get(1)?.pauses).toBe(1);
    expect(far.xend.manager.find('g')?.state).toBe('paused');
  });

  it('breaks off anywhere: nothing is left', async () => {
    const bytes = await image();
    for (let at = 0; at < bytes.length; at += 6007) {
      const client = new Client();
      client.send('receive\n');
      await client.line(0);
      client.socket.end(bytes.subarray(0, at));
      expect(await client.line(1)).toMatch(/^\(err \(type XendError\) \(value /);
    }
    await nothingOverThere();
  });

  it('sends more than there can be', async () => {
    const bytes = await image();
    const answer = async (change: (copy: Buffer, text: number) => void): Promise<string> => {
      const copy = Buffer.from(bytes);
      change(copy, 20 + bytes.readInt32BE(16));
      const client = new Client();
      client.send('receive\n');
      await client.line(0);
      client.send(copy);
      return client.line(1);
    };
    expect(await answer((copy) => copy.writeInt32BE(0x7fff_ffff, 16))).toContain('config length');
    expect(await answer((copy, at) => copy.writeBigUInt64LE(1n << 25n, at))).toContain('frames of memory');
    const batch = bytes.indexOf(Buffer.from([8, 0, 0, 0]), 20 + bytes.readInt32BE(16) + 8 + 8 + 4 + 8 + 5168);
    expect(batch).toBeGreaterThan(0);
    expect(await answer((copy) => copy.copy(copy, batch + 12, batch + 4, batch + 12))).toContain('comes twice');
    expect(await answer((copy) => copy.writeInt32LE(5000, batch))).toContain('a batch of 5000 pages');
    const nested = '('.repeat(1 << 20);
    const deep = new Client();
    deep.send(`receive\nLinuxGuestRecord\x00\x10\x00\x00${nested}`);
    expect(await deep.line(1)).toContain('config parse');
    await nothingOverThere();
  });

  it(`is one of ${MAX_RELOCATIONS} at most`, async () => {
    const clients = Array.from({ length: MAX_RELOCATIONS }, () => new Client());
    for (const client of clients) client.send('receive\n');
    for (const client of clients) expect(await client.line(0)).toBe('(ready receive)');
    const late = new Client();
    late.send('receive\n');
    expect(await late.line(0)).toBe("(err (type XendError) (value 'too many domains come at once'))");
    for (const client of clients) client.socket.resetAndDestroy();
    const next = async (): Promise<string> => {
      const client = new Client();
      client.send('receive\n');
      const line = await client.line(0);
      client.socket.resetAndDestroy();
      return line;
    };
    await settled(next, '(ready receive)');
  });
});
