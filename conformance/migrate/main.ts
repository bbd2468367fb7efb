/**
 * A Debian guest that moves between two hosts and back: a program counts, a file in its memory and one on its disk keep their
 * sums, and where it cannot go it stays, running, and nothing of it is left over there.
 *   --rounds N     moves there and back (default 2)
 *   --jit MODE     off, on or force (default: XENHOST_JIT, else on)
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { FetchedGuest } from '@xenhost/xenhost';
import { assert, deviceGuest, freePort, Report, startDeviceGuest, TestHost, until } from '@xenhost/testkit';
import { MovingGuest } from './guest.ts';

const NAME = 'mover';
const MEMORY_MIB = 192;
const HOST_MEMORY_MIB = 512;
const DISK_BYTES = 32 << 20;
const TIMEOUT_MS = 60_000;
/** What goes over a connection that breaks. */
const CUT_BYTES = 20 << 20;
const HERE = '127.0.0.1';

interface Place {
  readonly host: TestHost;
  readonly port: number;
  readonly sslPort: number;
}

/** A host that takes domains on free ports; certificates are of `folder`. */
async function place(folder: string, allow: string, jit: string | undefined): Promise<Place> {
  const [port, sslPort] = [await freePort(), await freePort()];
  const xendConfig = `(xend-relocation-server yes) (xend-relocation-address ${HERE}) (xend-relocation-port ${port})
    (xend-relocation-ssl-server yes) (xend-relocation-ssl-port ${sslPort}) (xend-relocation-hosts-allow '${allow}')
    (xend-relocation-server-ssl-key-file ${join(folder, 'key')})
    (xend-relocation-server-ssl-cert-file ${join(folder, 'cert')})\n`;
  return { host: await TestHost.start({ memoryMiB: HOST_MEMORY_MIB, xendConfig, jit }), port, sslPort };
}

function makeCertificate(folder: string): void {
  const files = ['-keyout', join(folder, 'key'), '-out', join(folder, 'cert')];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=there', ...files], {
    stdio: 'ignore',
  });
}

const domains = async ({ host }: Place): Promise<string> => host.mustXm('list');

/** Nothing of a domain is left there: not in the list, not in the store. */
async function nothingAt(there: Place): Promise<void> {
  await until(
    'nothing is left of it',
    async () => {
      // A xend that was killed is not there at once.
      if ((await there.host.xm('list')).code !== 0) return false;
      const [vms, backends] = await Promise.all([
        there.host.run('xenstore-ls', '/local/domain'),
        there.host.run('xenstore-ls', '/local/domain/0/backend/vbd'),
      ]);
      return !(await domains(there)).includes(NAME) && !vms.stdout.includes(NAME) && !backends.stdout.includes(NAME);
    },
    TIMEOUT_MS,
  );
}

async function moves(
  report: Report,
  guest: MovingGuest,
  from: Place,
  to: Place,
  ssl: boolean,
  ...options: readonly string[]
): Promise<boolean> {
  return report.case(`it moves${ssl ? ' over TLS' : ''}, its program, its file and its disk with it`, async () => {
    const before = await guest.look();
    const port = String(ssl ? to.sslPort : to.port);
    const start = Date.now();
    await from.host.mustXm('migrate', ...options, ...(ssl ? ['--ssl'] : []), `--port=${port}`, NAME, HERE);
    const ms = Date.now() - start;
    guest.attach(to.host);
    await guest.goesOnFrom(before);
    await nothingAt(from);
    return `${ms} ms`;
  });
}

async function stays(
  report: Report,
  what: string,
  guest: MovingGuest,
  [from, to]: readonly [Place, Place],
  { port = to.port, error }: { readonly port?: number; readonly error: RegExp },
): Promise<void> {
  await report.case(`it stays and goes on: ${what}`, async () => {
    const before = await guest.look();
    const { code, stderr } = await from.host.xm('migrate', `--port=${port}`, NAME, HERE);
    assert(code === 1 && error.test(stderr), `exit code ${String(code)}: ${stderr}`);
    await guest.goesOnFrom(before);
    assert((await domains(from)).includes(`\n${NAME} `), 'it has not got its name back');
    if (to !== from) await nothingAt(to);
    return stderr.trim().split('\n')[0] ?? '';
  });
}

async function refusals(
  report: Report,
  guest: MovingGuest,
  [here, there]: readonly [Place, Place],
  folder: string,
  fetched: FetchedGuest,
): Promise<void> {
  const pair = [here, there] as const;
  const nobody = await freePort();
  await stays(report, 'nobody listens there', guest, pair, {
    port: nobody,
    error: /can't connect: Connection refused/,
  });
  await stays(report, 'it is there already', guest, [here, here], { error: /already exists with ID .*\(from 127/ });
  const disk = join(folder, 'disk');
  renameSync(disk, `${disk}.away`);
  await stays(report, 'its disk is not there', guest, pair, { error: /xvda|51712|vbd|image/i });
  renameSync(`${disk}.away`, disk);
  const cut = await cutAfter(CUT_BYTES, there.port);
  await stays(report, 'the connection breaks', guest, pair, {
    port: cut.port,
    error: /the connection to 127.0.0.1 broke/,
  });
  cut.close();
  const killing = await cutAfter(CUT_BYTES, there.port, () => void process.kill(there.host.pidOf('xend'), 'SIGKILL'));
  await stays(report, 'the other xend is killed', guest, pair, {
    port: killing.port,
    error: /the connection to 127.0.0.1 broke|left/,
  });
  killing.close();
  const filler = { kernel: fetched.kernel, ramdisk: fetched.ramdisk, memory: HOST_MEMORY_MIB - MEMORY_MIB };
  await there.host.mustXm('create', '-q', '-p', there.host.config('filler', filler));
  await stays(report, 'there is no memory for it', guest, pair, { error: /memory|KiB/ });
  await there.host.mustXm('destroy', 'filler');
}

/** A port of the other host that lets so much through and then breaks; or something else happens then. */
async function cutAfter(
  bytes: number,
  port: number,
  happen?: () => void,
): Promise<{ readonly port: number; close(): void }> {
  const server = createServer((near) => {
    const far = connect(port, HERE);
    let left = bytes;
    near.on('data', (data: Buffer) => {
      const isBefore = left >= 0;
      left -= data.length;
      if (isBefore && left < 0) (happen ?? (() => near.resetAndDestroy()))();
    });
    for (const socket of [near, far]) {
      socket.on('error', () => undefined);
      socket.once('close', () => {
        near.destroy();
        far.destroy();
      });
    }
    near.pipe(far).pipe(near);
  });
  await new Promise<void>((resolve) => server.listen(0, HERE, resolve));
  return { port: (server.address() as AddressInfo).port, close: () => server.close() };
}

/** What nobody sends who means well: the server closes, and goes on. */
async function hostile(report: Report, { host, port }: Place): Promise<void> {
  for (const [what, bytes] of [
    ['no image', 'receive\nThis is no image at all'],
    ['a configuration of 2 GiB', 'receive\nLinuxGuestRecord\x7f\xff\xff\xff'],
    ['a line without end', 'x'.repeat(1 << 16)],
    ['half an image', 'receive\nLinuxGue'],
  ] as const)
    await report.case(`what is no domain is refused: ${what}`, async () => {
      await new Promise<void>((resolve) => {
        const socket = connect(port, HERE, () => socket.end(bytes, 'latin1'));
        socket.on('error', () => undefined).on('close', () => {
          resolve();
        }).resume(); // prettier-ignore
      });
      assert((await host.mustXm('list')).split('\n').length === 3, 'a domain is there');
    });
}

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { rounds: { type: 'string', default: '2' }, jit: { type: 'string' } },
  });
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds ${values.rounds}: a number from 1`);
  const report = new Report();
  const fetched = await deviceGuest((line) => {
    report.note(line);
  });
  const folder = mkdtempSync(join(tmpdir(), 'xh-'));
  const places: Place[] = [];
  try {
    makeCertificate(folder);
    const disk = join(folder, 'disk');
    writeFileSync(disk, '');
    truncateSync(disk, DISK_BYTES);
    const here = await place(folder, '^127\\.0\\.0\\.1$', values.jit);
    places.push(here);
    const there = await place(folder, '^127\\.0\\.0\\.1$', values.jit);
    places.push(there);
    const options = { disk: [`file:${disk},xvda,w`], memoryMiB: MEMORY_MIB, vcpus: 2 };
    const guest = new MovingGuest(NAME, await startDeviceGuest(here.host, fetched, NAME, options));
    await guest.begin();
    for (let round = 0; round < rounds; round++) {
      const ssl = round % 2 === 1;
      if (!(await moves(report, guest, here, there, ssl)) || !(await moves(report, guest, there, here, ssl)))
        throw new Error('the guest is lost');
    }
    await refusals(report, guest, [here, there], folder, fetched);
    await hostile(report, there);
    await moves(report, guest, here, there, false, '--live');
  } catch (error) {
    report.row('the run', false, `${String(error)}\n${places.map(({ host }) => host.logs()).join('\n')}`);
  } finally {
    for (const { host } of places) await host.stop();
    rmSync(folder, { recursive: true, force: true });
  }
  return report.close();
}
