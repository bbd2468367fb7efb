/**
 * Clients and guests that do what they should not, while a tool and a guest ask a thousand times a second: those must be answered
 * throughout, memory must stay bounded, and the accounts must be right afterwards. More than 100 ms is told, more than a
 * second fails (this machine may be busy with other things).
 */
import { spawn } from 'node:child_process';
import { assert } from '@xenhost/testkit';
import type { Report } from '@xenhost/testkit';
import { compile } from '../lib/xen/daemons.ts';
import type { Daemon } from '../lib/xen/daemons.ts';
import { ATTACKS } from './attacks.ts';
import type { Attack } from './attacks.ts';
import { World } from './world.ts';

const ANSWER_TOLD_MS = 100;
const ANSWER_MAX_MS = 1000;
/** What one attack may leave the daemon with, garbage that was not yet collected included. */
const GROWTH_MAX_MIB = 160;
const VICTIM = 6;

interface Testimony {
  readonly answers: number;
  readonly worstMs: number;
  readonly why: string;
}

/** A client of its own process that asks until it is told to stop. */
class Witness {
  readonly #said: Promise<Testimony>;
  readonly #stop: () => void;

  constructor(args: readonly string[]) {
    const child = spawn(compile('./witness.c'), args, { stdio: ['pipe', 'pipe', 'inherit'] });
    let out = '';
    child.stdout.on('data', (data: Buffer) => (out += data.toString()));
    this.#said = new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => {
        if (code === 0) resolve(JSON.parse(out) as Testimony);
        else reject(new Error(`a witness ended with ${signal ?? String(code)}`));
      });
    });
    // Whoever has not asked by then learns of it elsewhere.
    this.#said.catch(() => undefined);
    this.#stop = () => void child.stdin.end();
  }

  testify(): Promise<Testimony> {
    this.#stop();
    return this.#said;
  }
}

export async function runHostile(report: Report, only: string): Promise<void> {
  for (const attack of ATTACKS) {
    if (!attack.name.includes(only)) continue;
    await report.case(`hostile: ${attack.name}`, () => endure(attack));
  }
}

async function endure({ run }: Attack): Promise<string> {
  await using world = await World.open('ours');
  const { daemon } = world;
  await world.addGuest(VICTIM, 'bare');
  const before = daemon.rssKiB();
  const witnesses = [new Witness(['socket', daemon.socket]), new Witness(['ring', daemon.directory, String(VICTIM)])];
  await Promise.race([
    run(world),
    daemon.exited.then(() => {
      throw new Error('the daemon has ended');
    }),
  ]);
  const said = await Promise.all(witnesses.map((each) => each.testify()));
  await checkAccounts(world);
  const growth = growthMiB(daemon, before);
  const worst = Math.max(...said.map(({ worstMs }) => worstMs));
  for (const [i, { answers, why }] of said.entries()) {
    const who = i === 0 ? 'a tool' : 'a guest';
    assert(why === '' && answers > 0, `${who} was answered ${answers} times: ${why}`);
  }
  assert(worst <= ANSWER_MAX_MS, `the longest wait was ${worst} ms`);
  assert(growth <= GROWTH_MAX_MIB, `the daemon grew by ${growth.toFixed(0)} MiB`);
  const slow = worst > ANSWER_TOLD_MS ? `, SLOW (over ${ANSWER_TOLD_MS} ms)` : '';
  return `${said.reduce((sum, { answers }) => sum + answers, 0)} answers, longest ${worst.toFixed(1)} ms${slow}, grew by ${growth.toFixed(0)} MiB`;
}

const growthMiB = (daemon: Daemon, beforeKiB: number): number => (daemon.rssKiB() - beforeKiB) / 1024;

async function checkAccounts(world: World): Promise<void> {
  const [checked] = await world.step(['0', 'CONTROL', 'check|']);
  assert(checked === 'OK|', `check: ${checked ?? 'nothing'}`);
}
