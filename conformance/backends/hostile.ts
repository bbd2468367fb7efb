/**
 * Frontends that keep to nothing, one after the other, each a domain of its own; beside them honest Debian guests whose random
 * requests or transfers go on all the time and are checked.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { assert, type ConsoleSession, Puppet, type PuppetDevices, type TestHost, until } from '@xenhost/testkit';
import { ATTACKED_MIB, diskAttacks } from './hostile-disk.ts';
import { netAttacks } from './hostile-net.ts';
import { linked, serve } from './network.ts';
import { raw, type World } from './world.ts';

const HONEST_MIB = 32;
const SPAN_KIB = 4 << 10;
const TIMEOUT_MS = 300_000;

interface Attack {
  readonly name: string;
  readonly run: (puppet: Puppet) => Promise<string>;
}

/** Honest guests: the work of one of them repeats until it is told to end. */
class Honest {
  readonly #shell: ConsoleSession;

  private constructor(shell: ConsoleSession) {
    this.#shell = shell;
  }

  static async disk(world: World, host: TestHost): Promise<Honest> {
    const image = await world.image(raw, 'honest', HONEST_MIB);
    const shell = await world.start(host, 'honest', { disk: [`file:${image},xvda,w`] });
    return Honest.#start(shell, `gio fsx /dev/xvda ${SPAN_KIB} 2 $n 4`);
  }

  static async network(world: World, host: TestHost): Promise<Honest> {
    const one = await world.start(host, 'one', { vif: [''] });
    const two = await world.start(host, 'two', { vif: [''] });
    await linked(one, '10.9.0.1');
    await linked(two, '10.9.0.2');
    await serve(two);
    return Honest.#start(one, 'gio send 10.9.0.2 5577 1 $n');
  }

  static async #start(shell: ConsoleSession, line: string): Promise<Honest> {
    const loop = `n=0; while [ ! -e /tmp/stop ]; do n=$((n+1)); ${line} || break; usleep 100000; done`;
    await shell.command(`(${loop} >/tmp/work 2>&1 &)`, TIMEOUT_MS);
    return new Honest(shell);
  }

  /** Ends the work: how much was done; throws when something of it was wrong. */
  async end(): Promise<string> {
    await this.#shell.command('touch /tmp/stop', TIMEOUT_MS);
    await until(
      'the honest work has ended',
      async () => !/^\d/m.test(await this.#shell.command('pidof gio', TIMEOUT_MS)),
    );
    const output = await this.#shell.command('cat /tmp/work', TIMEOUT_MS);
    assert(!output.includes('GIO-FAIL'), output.slice(-500));
    const rounds = [...output.matchAll(/^GIO ops/gm)].length;
    assert(rounds > 0, 'no round of it');
    return `${rounds} rounds`;
  }
}

/** One attack by a puppet; then its domain goes, and the backend is the process that it was. */
async function attack(
  host: TestHost,
  daemon: 'blkback' | 'netback',
  { name, run }: Attack,
  devices: PuppetDevices,
): Promise<string> {
  const pid = host.pidOf(daemon);
  const logged = host.logOf(daemon).length;
  const puppet = await Puppet.start(host, 'puppet', devices);
  let outcome: string;
  try {
    outcome = await run(puppet);
  } finally {
    await puppet.destroy().catch(() => undefined);
  }
  assert(host.pidOf(daemon) === pid, `${daemon} ended (${name})`);
  const said = host.logOf(daemon).slice(logged);
  const why = reason(said, puppet.domid);
  assert(!SILENT.has(outcome) || why !== undefined, `${daemon} does not say why it let go:\n${said.slice(-1000)}`);
  return why === undefined ? outcome : `${outcome}: ${why}`;
}

const WARN = 40;
/** Ends of service: the daemon's log says why. */
const SILENT: ReadonlySet<string> = new Set(['let go', 'not served']);

/** The last warning about a domain in the lines of a daemon's log. */
function reason(log: string, domid: number): string | undefined {
  const lines = log.split('\n').flatMap((line) => {
    try {
      const entry = JSON.parse(line) as { level?: number; msg?: string; reason?: string; err?: { message?: string } };
      const about = new RegExp(`"(domid|domain)":${domid}\\b|[/ ]${domid}/`).test(line);
      return about && (entry.level ?? 0) >= WARN ? [entry] : [];
    } catch {
      return [];
    }
  });
  const last = lines.at(-1);
  return last === undefined ? undefined : [last.msg, last.reason, last.err?.message].filter(Boolean).join(' – ');
}

const UNDISTURBED = 'the honest guest beside them has noticed nothing';

export async function hostileDiskPart(world: World): Promise<void> {
  const { report } = world;
  await world.withHost(async (host) => {
    const image = join(world.directory, 'attacked.img');
    writeFileSync(image, new Uint8Array(ATTACKED_MIB << 20));
    const honest = await Honest.disk(world, host);
    for (const each of diskAttacks)
      await report.case(each.name, () =>
        attack(host, 'blkback', each, { disk: [`file:${image},xvda,${each.mode ?? 'w'}`] }),
      );
    await report.case(UNDISTURBED, () => honest.end());
  });
}

export async function hostileNetPart(world: World): Promise<void> {
  const { report } = world;
  await world.withHost(async (host) => {
    const honest = await Honest.network(world, host);
    for (const each of netAttacks) await report.case(each.name, () => attack(host, 'netback', each, { vif: [''] }));
    await report.case(UNDISTURBED, () => honest.end());
  });
}
