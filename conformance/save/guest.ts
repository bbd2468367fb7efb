/** A guest of the run, as its console shows it: programs that watch their registers, clocks that go on. */
import { assert, type ConsoleSession, type TestHost } from '@xenhost/testkit';

/** Where the program is in the guest. */
export const VECTORS = '/vectors';
const BOOT_TIMEOUT_MS = 180_000;
const COMMAND_TIMEOUT_MS = 60_000;
/** The guest's clock is asked for whole seconds. */
const CLOCK_SLACK_S = 2;
const LATER_S = 0.3;

/** What is seen at one moment. */
interface Sight {
  /** Looks that each program has had. */
  readonly counts: readonly number[];
  /** Seconds since the guest booted, and its wall clock. */
  readonly uptime: number;
  readonly clock: number;
  /** Between these seconds of the host. */
  readonly askedAt: number;
  readonly toldAt: number;
}

export class Guest {
  readonly name: string;
  readonly #host: TestHost;
  #console: ConsoleSession | undefined;
  #programs = 0;

  constructor(host: TestHost, name: string) {
    this.#host = host;
    this.name = name;
  }

  /** Waits for the shell of a guest that boots, and starts as many programs as that. */
  async begin(programs: number): Promise<void> {
    this.attach();
    await this.#shell().expect(/GUEST-READY.*/, BOOT_TIMEOUT_MS);
    this.#programs = programs;
    for (let n = 0; n < programs; n++) await this.#command(`(${VECTORS} /tmp/v${n} &)`);
    await this.look();
  }

  /** After the domain was made again: to its new console. */
  attach(): void {
    this.#console?.close();
    this.#console = this.#host.console(this.name);
  }

  /** Its programs are alive and content, its clock is right. */
  async look(): Promise<Sight> {
    const files = Array.from({ length: this.#programs }, (_, n) => `/tmp/v${n}`).join(' ');
    const askedAt = Date.now() / 1000;
    const text = await this.#command(
      `cat ${files}; sleep ${LATER_S}; cat ${files} /proc/uptime; echo clock=$(date +%s)`,
    );
    const bad = /^BAD .*/m.exec(text);
    assert(!bad, `${this.name} lost something: ${bad?.[0] ?? ''}`);
    const all = [...text.matchAll(/^ok (\d+)/gm)].map(([, count]) => Number(count));
    const [, uptime] = /^(\d+\.\d+) \d+/m.exec(text) ?? [];
    const [, clock] = /^clock=(\d+)/m.exec(text) ?? [];
    assert(all.length === 2 * this.#programs && uptime !== undefined && clock !== undefined, `unexpected: ${text}`);
    const counts = all.slice(this.#programs);
    for (const [n, count] of counts.entries())
      assert(count > (all[n] ?? 0), `program ${n} of ${this.name} stands still at ${count}`);
    return { counts, uptime: Number(uptime), clock: Number(clock), askedAt, toldAt: Date.now() / 1000 };
  }

  /** All programs have gone on since then, and so has time. */
  async goesOnFrom(before: Sight): Promise<void> {
    const now = await this.look();
    for (const [n, count] of now.counts.entries())
      assert(count > (before.counts[n] ?? 0), `program ${n} fell back from ${before.counts[n] ?? 0} to ${count}`);
    assert(now.uptime >= before.uptime, `time fell back from ${before.uptime} s to ${now.uptime} s`);
    // Until it has a clock source, a kernel counts ticks: on a busy machine its clock is late, but it goes as the host's.
    const [passed, atLeast] = [now.clock - before.clock, now.askedAt - before.toldAt];
    assert(passed >= atLeast - CLOCK_SLACK_S, `its clock went ${passed} s where ${atLeast} s passed`);
    assert(now.clock <= now.toldAt + CLOCK_SLACK_S, `its clock says ${now.clock} at ${now.toldAt}`);
  }

  /** It is as it was some time before that. */
  async goesOnBehind(later: Sight): Promise<void> {
    const now = await this.look();
    assert(now.uptime < later.uptime + COMMAND_TIMEOUT_MS / 1000, `uptime ${now.uptime} s after ${later.uptime} s`);
  }

  #command(line: string): Promise<string> {
    return this.#shell().command(line, COMMAND_TIMEOUT_MS);
  }

  #shell(): ConsoleSession {
    if (!this.#console) throw new Error(`${this.name} has no console`);
    return this.#console;
  }
}
