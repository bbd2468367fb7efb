/**
 * The screen of Debian's own kernel over VNC: xen-fbfront and xen-kbdfront of an unmodified guest against qemu-dm, from `xm create` with a
 * vfb to the pixels that a client sees, and from its keys to the guest's shell.
 *   --dir DIR        where fetched guests are kept (default .cache/guests)
 *   --kernel NAME    default amd64: the cloud flavour has no keyboard
 *   --picture FILE   writes the screen of the booted guest as a PNG
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { fetchGuest, readState, type FetchedGuest } from '@xenhost/xenhost';
import { assert, Report, RfbClient, RfbEncoding, TestHost, until, type ConsoleSession } from '@xenhost/testkit';

const MEMORY_MIB = 192;
const BOOT_TIMEOUT_MS = 180_000;
const COMMAND_TIMEOUT_MS = 90_000;
const READY = /GUEST-READY.*/;
const WIDTH = 800;
const HEIGHT = 600;
const BYTES = WIDTH * HEIGHT * 4;
/** A shell on the first virtual terminal, which the framebuffer shows. */
const SHELL_ON_SCREEN = "(setsid sh -c 'exec sh -i </dev/tty1 >/dev/tty1 2>&1' &)";
const SLOW_LINES = 200;

interface Guest {
  readonly host: TestHost;
  readonly name: string;
  readonly console: ConsoleSession;
}

async function boot(host: TestHost, fetched: FetchedGuest, name: string, vfb: string): Promise<Guest> {
  const config = host.config(name, {
    kernel: fetched.kernel,
    ramdisk: fetched.ramdisk,
    memory: MEMORY_MIB,
    extra: 'console=tty0 console=hvc0 cryptomgr.notests nomods consoleblank=0',
    vfb: [vfb],
  });
  await host.mustXm('create', '-q', config);
  const console = host.console(name);
  await console.expect(READY, BOOT_TIMEOUT_MS);
  return { host, name, console };
}

/** What xend tells of the vfb's place. */
async function locationOf({ host, name }: Guest): Promise<{ host: string; port: number }> {
  const [, address = '', port] = /\(location (.*):(\d+)\)/.exec(await host.mustXm('list', '--long', name)) ?? [];
  assert(port !== undefined, 'no location of the vfb in xm list --long');
  return { host: address, port: Number(port) };
}

async function view(guest: Guest, options: Parameters<typeof RfbClient.connect>[1] = {}): Promise<RfbClient> {
  const socket = connect(await locationOf(guest));
  await new Promise((done, fail) => socket.once('connect', done).once('error', fail));
  return RfbClient.connect(socket, options);
}

const md5 = (pixels: Uint32Array): string => createHash('md5').update(pixels).digest('hex');

/** The guest's own checksum of what its framebuffer holds. */
async function framebufferSum({ console }: Guest): Promise<string> {
  const output = await console.command(`head -c ${BYTES} /dev/fb0 | md5sum`, COMMAND_TIMEOUT_MS);
  return /^([0-9a-f]{32})\b/m.exec(output)?.[1] ?? output;
}

async function dmPid({ host, name }: Guest): Promise<number> {
  const domid = (await host.mustXm('domid', name)).trim();
  const { stdout } = await host.run('xenstore-read', `/local/domain/${domid}/image/device-model-pid`);
  return Number(stdout.trim());
}

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

/** Its blinking would be in every picture. */
const HIDE_CURSOR = "printf '\\033[?25l' >/dev/tty1";

async function pictures(report: Report, guest: Guest, picture: string | undefined): Promise<void> {
  await guest.console.command(HIDE_CURSOR, COMMAND_TIMEOUT_MS);
  await report.case('the screen shows the console, pixel by pixel', async () => {
    const client = await view(guest);
    assert(client.name === `Xen-${guest.name}`, `the desktop is called ${client.name}`);
    assert(client.width === WIDTH && client.height === HEIGHT, `${client.width} by ${client.height} pixels`);
    const wanted = await framebufferSum(guest);
    await until('the picture is the framebuffer', () => Promise.resolve(md5(client.pixels) === wanted));
    assert(!client.isBlank, 'the screen is blank');
    if (picture !== undefined) writeFileSync(picture, client.png());
    client.close();
  });
  await report.case('much output is followed, and costs little', async () => {
    const client = await view(guest, { encodings: [RfbEncoding.zrle] });
    const pid = await dmPid(guest);
    const [cpu, start] = [cpuSeconds(pid), performance.now()];
    await guest.console.command(`seq 1 ${SLOW_LINES} >/dev/tty1`, COMMAND_TIMEOUT_MS);
    const wanted = await framebufferSum(guest);
    await until('the last of it is seen', () => Promise.resolve(md5(client.pixels) === wanted));
    const seconds = (performance.now() - start) / 1000;
    client.close();
    const share = Math.round(((cpuSeconds(pid) - cpu) / seconds) * 100);
    return `${SLOW_LINES} lines in ${seconds.toFixed(1)} s, ${client.updates} updates, qemu-dm ${share} % of a core`;
  });
  for (const [name, encoding] of Object.entries(RfbEncoding)) {
    if (encoding < 0) continue;
    await report.case(`${name}: a picture that the guest draws arrives as it is`, async () => {
      const client = await view(guest, { encodings: [encoding] });
      const bytes = Buffer.alloc(BYTES, `${name} 0123456789\n`);
      const wanted = Uint32Array.from({ length: BYTES / 4 }, (_, i) => bytes.readUInt32LE(i * 4) & 0xffffff);
      const draw = `yes '${name} 0123456789' | head -c ${BYTES} >/dev/fb0`;
      await guest.console.command(draw, COMMAND_TIMEOUT_MS);
      await until('the picture has come', () => Promise.resolve(md5(client.pixels) === md5(wanted)));
      client.close();
      return `${client.updates} updates, ${Math.round(client.bytes / 1024)} KiB`;
    });
  }
}

async function input(report: Report, guest: Guest): Promise<void> {
  const { console } = guest;
  await report.case('keys reach a shell on the screen', async () => {
    const client = await view(guest, { encodings: [RfbEncoding.zrle] });
    await console.command(SHELL_ON_SCREEN, COMMAND_TIMEOUT_MS);
    await client.type('echo "Typed: $((6*7)) {|}~ <ABC>" >/dev/hvc0\n');
    await console.expect('Typed: 42 {|}~ <ABC>', COMMAND_TIMEOUT_MS);
    client.close();
  });
  await report.case('a key is seen on the screen', async () => {
    const client = await view(guest, { encodings: [RfbEncoding.zrle] });
    await until('the first picture', () => Promise.resolve(client.updates > 0));
    const times: number[] = [];
    for (const key of 'abcdefghij') {
      const before = md5(client.pixels);
      const start = performance.now();
      await client.type(key);
      while (md5(client.pixels) === before) {
        assert(performance.now() - start < COMMAND_TIMEOUT_MS, `'${key}' is not seen`);
        await new Promise((done) => setTimeout(done, 2));
      }
      times.push(performance.now() - start);
    }
    await client.type('\n');
    client.close();
    return `median ${Math.round(times.sort((a, b) => a - b)[5] ?? 0)} ms`;
  });
  await report.case('the pointer reaches /dev/input/mice', async () => {
    const client = await view(guest, { encodings: [RfbEncoding.zrle] });
    console.write('head -c 24 /dev/input/mice | hexdump -e \'3/1 "%02x " "\\n"\'; echo mouse-\'\'end\n');
    // Until it has read enough: what comes before it listens is lost.
    let moves = 0;
    const moving = setInterval(() => {
      client.pointer(100 + (moves % 20) * 20, 100, moves % 2);
      moves++;
    }, 100);
    const [packets = ''] = await console.expect(/[\s\S]*mouse-end\r?\n/, COMMAND_TIMEOUT_MS).finally(() => {
      clearInterval(moving);
    });
    assert(/^[0-9a-f]9 /m.test(packets), `no packet with the left button: ${packets}`);
    assert(/^[0-9a-f]{2} (?!00)[0-9a-f]{2} /m.test(packets), `no packet with a movement: ${packets}`);
    client.close();
  });
}

async function endings(report: Report, guest: Guest): Promise<void> {
  const { host, console } = guest;
  const typed = async (word: string): Promise<void> => {
    const client = await view(guest, { encodings: [RfbEncoding.zrle] });
    await client.type(`echo ${word}-$((1+1)) >/dev/hvc0\n`);
    await console.expect(`${word}-2`, COMMAND_TIMEOUT_MS);
    client.close();
  };
  const killed = async (): Promise<string> => {
    const before = await locationOf(guest);
    const pid = await dmPid(guest);
    process.kill(pid, 'SIGKILL');
    await until('another device model runs', async () => {
      const now = await dmPid(guest);
      return now !== pid && isAlive(now);
    });
    await until('it listens', () => listens(before));
    await typed('after');
    return `again on port ${before.port}`;
  };
  await report.case('kill -9 of qemu-dm: another takes the guest up', killed);
  await report.case('kill -9 of xend: qemu-dm goes on, and is found', async () => {
    const pid = await dmPid(guest);
    const xend = readState(host.host.paths.run)?.daemons.find(({ name }) => name === 'xend')?.pid ?? 0;
    process.kill(xend, 'SIGKILL');
    await until('xend is back', async () => (await host.xm('list')).code === 0);
    assert((await dmPid(guest)) === pid && isAlive(pid), 'the device model is another one');
    await typed('found');
    return killed();
  });
  await report.case('the end of the domain is the end of its device model', async () => {
    const pid = await dmPid(guest);
    await host.mustXm('destroy', guest.name);
    await until('the process has ended', () => Promise.resolve(!isAlive(pid)));
    const { stdout } = await host.run('xenstore-ls', '/local/domain/0');
    assert(!/vnc|device-model-pid|vncpasswd/.test(stdout), `left in xenstore:\n${stdout}`);
  });
}

const listens = (place: { host: string; port: number }): Promise<boolean> =>
  new Promise((answer) => {
    const socket = connect(place);
    socket.once('connect', () => {
      socket.destroy();
      answer(true);
    });
    socket.once('error', () => {
      answer(false);
    });
  });

/** Seconds of processor time, by /proc. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

async function passwords(report: Report, host: TestHost, fetched: FetchedGuest): Promise<void> {
  const name = 'secret';
  let guest: Guest | undefined;
  await report.case('vncpasswd: asked for, and kept out of xenstore', async () => {
    guest = await boot(host, fetched, name, 'type=vnc,vncdisplay=40,vncpasswd=geheim');
    const client = await view(guest, { password: 'geheim' });
    client.close();
    const refused = await view(guest, { password: 'falsch' }).then(
      () => 'nothing',
      (error: unknown) => (error as Error).message,
    );
    assert(refused === 'authentication failed', `a wrong password brings ${refused}`);
    const { stdout } = await host.run('xenstore-ls', '/vm');
    assert(!stdout.includes('vncpasswd'), 'the password is still in /vm');
    return `port ${(await locationOf(guest)).port}`;
  });
  await report.case('xm vncviewer runs a viewer with the place and the password', async () => {
    const viewer = join(host.directory, 'vncviewer');
    const seen = join(host.directory, 'seen');
    writeFileSync(viewer, `#!/bin/sh\necho "$@" >${seen}\nhead -n 1 >>${seen}\n`, { mode: 0o755 });
    const env = process.env['PATH'];
    host.host.env['PATH'] = `${host.directory}:${env ?? ''}`;
    await host.mustXm('vncviewer', '--autopass', name);
    host.host.env['PATH'] = env;
    assert(existsSync(seen), 'the viewer did not run');
    const { port } = await locationOf(guest ?? { host, name, console: host.console(name) });
    const text = readFileSync(seen, 'utf8');
    assert(text === `-autopass 127.0.0.1:${port - 5900}\ngeheim\n`, `the viewer got ${text}`);
  });
  await host.xm('destroy', name);
  await report.case('a keymap that is not there is refused by name', async () => {
    const config = host.config('klingon', { kernel: fetched.kernel, memory: MEMORY_MIB, vfb: ['type=vnc,keymap=tlh'] });
    const { code, stderr, stdout } = await host.xm('create', config);
    assert(code !== 0 && /no keymap 'tlh'/.test(stderr + stdout), `${String(code)}: ${stderr}${stdout}`);
    assert((await host.xm('list', 'klingon')).code !== 0, 'the domain is still there');
  });
}

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      dir: { type: 'string', default: '.cache/guests' },
      kernel: { type: 'string', default: 'amd64' },
      picture: { type: 'string' },
    },
  });
  const report = new Report();
  const fetched = await fetchGuest(resolve(values.dir), values.kernel, true, (line) => {
    report.note(line);
  });
  const host = await TestHost.start();
  try {
    let guest: Guest | undefined;
    const booted = await report.case(`${fetched.version} boots with a vfb`, async () => {
      guest = await boot(host, fetched, 'screen', 'type=vnc');
    });
    if (booted && guest) {
      await pictures(report, guest, values.picture);
      await input(report, guest);
      await endings(report, guest);
    }
    await passwords(report, host, fetched);
    if (report.failed > 0) report.note(`log:\n${host.logs()}`);
  } finally {
    await host.stop();
  }
  return report.close();
}
