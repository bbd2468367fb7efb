/**
 * Frontends that keep to nothing, one after the other, each a domain of its own; beside them two honest Debian guests whose random
 * requests and transfers go on all the time and are checked.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { assert, type ConsoleSession, type TestHost, until } from '@xenhost/testkit';
import { ATTACKED_MIB, diskAttacks } from './hostile-disk.ts';
import { netAttacks } from './hostile-net.ts';
import { Puppet, type PuppetDevices } from './puppet.ts';
import { formats, must, type World } from './world.ts';

const HONEST_MIB = 32;
const SPAN_KIB = 4 << 10;
const TIMEOUT_MS = 300_000;

interface Attack {
  readonly name: string;
  readonly run: (puppet: Puppet) => Promise<string>;
}

/** The honest guests: their work repeats until it is told to end. */
class Honest {
  readonly #one: ConsoleSession;
  readonly #two: ConsoleSession;

  private constructor(one: ConsoleSession, two: ConsoleSession) {
    this.#one = one;
    this.#two = two;
  }

  static async start(world: World, host: TestHost): Promise<Honest> {
    const [raw] = formats;
    assert(raw !== undefined, 'formats');
    const image = await world.image(raw, 'honest', HONEST_MIB);
    const one = await world.start(host, 'one', { disk: [`file:${image},xvda,w`], vif: [''] });
    const two = await world.start(host, 'two', { vif: [''] });
    await must(one, 'ip addr add 10.9.0.1/24 dev eth0 && ip link set eth0 up');
    await must(two, 'ip addr add 10.9.0.2/24 dev eth0 && ip link set eth0 up');
    two.write('gio serve 5577\n');
    await two.expect('serving\r', TIMEOUT_MS);
    const repeat = (line: string, log: string): string =>
      `(n=0; while [ ! -e /tmp/stop ]; do n=$((n+1)); ${line} || break; done >/tmp/${log} 2>&1 &)`;
    await one.command(repeat(`gio fsx /dev/xvda ${SPAN_KIB} 2 $n 4; usleep 50000`, 'disk'), TIMEOUT_MS);
    await one.command(repeat('gio send 10.9.0.2 5577 1 $n; usleep 200000', 'net'), TIMEOUT_MS);
    return new Honest(one, two);
  }

  /** Ends the work: how much was done; throws when something of it was wrong. */
  async end(): Promise<string> {
    await this.#one.command('touch /tmp/stop', TIMEOUT_MS);
    await until(
      'the honest work has ended',
      async () => !/^\d/m.test(await this.#one.command('pidof gio', TIMEOUT_MS)),
    );
    const done = [];
    for (const log of ['disk', 'net']) {
      const output = await this.#one.command(`cat /tmp/${log}`, TIMEOUT_MS);
      assert(!output.includes('GIO-FAIL'), output.slice(-500));
      const rounds = [...output.matchAll(/^GIO ops/gm)].length;
      assert(rounds > 0, `no round of ${log}`);
      done.push(`${rounds} rounds of ${log}`);
    }
    assert(!this.#two.closed, 'the other guest is gone');
    return done.join(', ');
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
  assert(outcome !== 'let go' || why !== undefined, `${daemon} does not say why it let go:\n${said.slice(-1000)}`);
  return why === undefined ? outcome : `${outcome}: ${why}`;
}

const WARN = 40;

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

export async function hostilePart(world: World): Promise<void> {
  const { report } = world;
  await world.withHost(async (host) => {
    const image = join(world.directory, 'attacked.img');
    writeFileSync(image, new Uint8Array(ATTACKED_MIB << 20));
    const honest = await Honest.start(world, host);
    for (const each of diskAttacks)
      await report.case(`disk: ${each.name}`, () =>
        attack(host, 'blkback', each, { disk: [`file:${image},xvda,${each.mode ?? 'w'}`] }),
      );
    for (const each of netAttacks)
      await report.case(`network: ${each.name}`, () => attack(host, 'netback', each, { vif: [''] }));
    await report.case('the honest guests beside them have noticed nothing', () => honest.end());
  });
}
