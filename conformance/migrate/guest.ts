/** The guest that moves, as its console shows it: a program that counts, sums of what is in its memory and on its disk. */
import { assert, type ConsoleSession, type TestHost } from '@xenhost/testkit';

const COMMAND_TIMEOUT_MS = 120_000;
const LATER_S = 0.5;
/** In its memory, and on its disk from the first megabyte on. */
const MEBIBYTES = 8;

/** What is seen at one moment. */
interface Sight {
  readonly count: number;
  readonly uptime: number;
}

export class MovingGuest {
  readonly #name: string;
  #console: ConsoleSession;
  #sums = '';

  constructor(name: string, console: ConsoleSession) {
    this.#name = name;
    this.#console = console;
  }

  async begin(): Promise<void> {
    await this.#command(
      `dd if=/dev/urandom of=/tmp/file bs=1M count=${MEBIBYTES}; dd if=/tmp/file of=/dev/xvda bs=1M seek=1 conv=fsync`,
    );
    await this.#command('(while :; do n=$((n+1)); echo $n >/tmp/n; mv /tmp/n /tmp/count; sleep 0.1; done &)');
    this.#sums = await this.#sumsNow();
    await this.look();
  }

  /** To its console on the host where it is now. */
  attach(host: TestHost): void {
    this.#console.close();
    this.#console = host.console(this.#name);
  }

  /** Its program counts and its sums are what they were, of its disk read anew. */
  async look(): Promise<Sight> {
    const text = await this.#command(`cat /tmp/count; sleep ${LATER_S}; cat /tmp/count /proc/uptime`);
    const counts = [...text.matchAll(/^(\d+)\r?$/gm)].map(([, count]) => Number(count));
    const [, uptime] = /^(\d+\.\d+) \d+/m.exec(text) ?? [];
    const [first, count] = counts;
    assert(first !== undefined && count !== undefined && uptime !== undefined, `unexpected: ${text}`);
    assert(count > first, `it counts no more: ${first}, ${count}`);
    const sums = await this.#sumsNow();
    assert(sums === this.#sums, `${sums} instead of ${this.#sums}`);
    return { count, uptime: Number(uptime) };
  }

  /** It has counted on, and each of its files takes what is written. */
  async goesOnFrom(before: Sight): Promise<void> {
    const now = await this.look();
    assert(now.count > before.count, `its program fell back from ${before.count} to ${now.count}`);
    assert(now.uptime >= before.uptime, `time fell back from ${before.uptime} s to ${now.uptime} s`);
    const block = 'bs=4096 count=1';
    const text = await this.#command(
      `date +%s%N >/tmp/word; dd if=/tmp/word of=/dev/xvda ${block} conv=sync,fsync; echo 3 >/proc/sys/vm/drop_caches; ` +
        `dd if=/dev/xvda ${block} | head -c $(wc -c </tmp/word) | cmp - /tmp/word && echo same''word`,
    );
    assert(text.includes('sameword'), `its disk does not keep what it is given: ${text}`);
  }

  async #sumsNow(): Promise<string> {
    const text = await this.#command(
      `echo 3 >/proc/sys/vm/drop_caches; md5sum </tmp/file; dd if=/dev/xvda bs=1M skip=1 count=${MEBIBYTES} | md5sum`,
    );
    const sums = [...text.matchAll(/^([0-9a-f]{32})\b/gm)].map(([, sum]) => sum ?? '');
    assert(sums.length === 2 && sums[0] === sums[1], `unexpected: ${text}`);
    return sums.join();
  }

  #command(line: string): Promise<string> {
    return this.#console.command(line, COMMAND_TIMEOUT_MS);
  }
}
