/**
 * Debian's kernel saved, restored, checkpointed, suspended and resumed, with programs in it that keep their AVX, SSE and
 * x87 registers under watch (`program.ts`) on both vCPUs: nothing of theirs may be lost, and time goes on.
 *   --dir DIR      where fetched guests are kept (default .cache/guests)
 *   --kernel NAME  cloud or amd64 (default cloud)
 *   --rounds N     rounds of save and restore (default 3)
 *   --jit LIST     off,on,force: a host for each (default: XENHOST_JIT, else on)
 */
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { cpio, fetchGuest, S_IFREG } from '@xenhost/xenhost';
import { assert, jitRuns, Report, TestHost, until } from '@xenhost/testkit';
import { vectorProgram } from './program.ts';
import { Guest, VECTORS } from './guest.ts';

const MEMORY_MIB = 128;
const VCPUS = 2;
const TIMEOUT_MS = 60_000;
const CPIO_ALIGN = 4;

/** A ramdisk with the program in it; the kernel unpacks one archive after the other. */
function withProgram(ramdisk: string, into: string): string {
  const first = readFileSync(ramdisk);
  const padding = new Uint8Array((CPIO_ALIGN - (first.length % CPIO_ALIGN)) % CPIO_ALIGN);
  const second = cpio([{ path: VECTORS.slice(1), mode: S_IFREG | 0o755, data: vectorProgram() }]);
  writeFileSync(into, Buffer.concat([first, padding, second]));
  return into;
}

const gone = (host: TestHost, name: string): Promise<void> =>
  until(`${name} is gone`, async () => (await host.xm('list', name)).code === 3, TIMEOUT_MS);

/** Saved and restored, now by the same xend, now by a fresh one. */
async function saves(report: Report, host: TestHost, guest: Guest, rounds: number): Promise<void> {
  const { name } = guest;
  for (let round = 1; round <= rounds; round++) {
    const file = join(host.directory, `${name}.${round}`);
    const isFresh = round % 2 === 0;
    const restorer = isFresh ? 'a fresh xend' : 'the same xend';
    const went = await report.case(`round ${round}: saved and restored by ${restorer}`, async () => {
      const before = await guest.look();
      const start = Date.now();
      await host.mustXm('save', name, file);
      const savedMs = Date.now() - start;
      await gone(host, name);
      if (isFresh) await host.killDaemon('xend');
      const again = Date.now();
      await host.mustXm('restore', file);
      const restoredMs = Date.now() - again;
      guest.attach();
      await guest.goesOnFrom(before);
      return `save ${savedMs} ms, restore ${restoredMs} ms`;
    });
    if (!went) throw new Error('the guest is lost');
    await report.case(`round ${round}: a checkpoint leaves it running`, async () => {
      const before = await guest.look();
      await host.mustXm('save', '-c', name, checkpointOf(host, name));
      await guest.goesOnFrom(before);
    });
  }
}

const checkpointOf = (host: TestHost, name: string): string => join(host.directory, `${name}.checkpoint`);

async function checkpoint(report: Report, host: TestHost, guest: Guest): Promise<void> {
  const { name } = guest;
  await report.case('a destroyed domain goes on from its checkpoint, twice', async () => {
    const copy = join(host.directory, 'copy');
    copyFileSync(checkpointOf(host, name), copy);
    for (const file of [checkpointOf(host, name), copy]) {
      const before = await guest.look();
      await host.mustXm('destroy', name);
      await gone(host, name);
      await host.mustXm('restore', file);
      guest.attach();
      await guest.goesOnBehind(before);
    }
  });
}

async function managed(report: Report, host: TestHost, guest: Guest, rounds: number): Promise<void> {
  const { name } = guest;
  for (let round = 1; round <= rounds; round++)
    await report.case(`round ${round}: a managed domain is suspended and resumed`, async () => {
      const before = await guest.look();
      await host.mustXm('suspend', name);
      const listed = await host.mustXm('list', '--state=suspended');
      assert(listed.includes(name), `not listed as suspended:\n${listed}`);
      if (round % 2 === 0) await host.killDaemon('xend');
      await host.mustXm('resume', name);
      guest.attach();
      await guest.goesOnFrom(before);
    });
}

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      dir: { type: 'string', default: '.cache/guests' },
      kernel: { type: 'string', default: 'cloud' },
      rounds: { type: 'string', default: '3' },
      jit: { type: 'string' },
    },
  });
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds ${values.rounds}: a number from 1`);
  const report = new Report();
  const fetched = await fetchGuest(resolve(values.dir), values.kernel, false, (line) => {
    report.note(line);
  });
  for (const { jit, prefix } of jitRuns(values.jit)) {
    const host = await TestHost.start({ jit });
    try {
      const ramdisk = withProgram(fetched.ramdisk, join(host.directory, 'ramdisk'));
      const settings = {
        kernel: fetched.kernel, ramdisk, memory: MEMORY_MIB, vcpus: VCPUS,
        extra: 'console=hvc0 cryptomgr.notests nomods quiet',
      }; // prettier-ignore
      const what = `${prefix}${fetched.version}`;
      const saved = new Guest(host, 'saved');
      const kept = new Guest(host, 'kept');
      const booted = await report.case(`${what}: boots, its programs use AVX`, async () => {
        await host.mustXm('create', '-q', host.config(saved.name, settings));
        await saved.begin(VCPUS);
      });
      if (!booted) continue;
      await saves(report, host, saved, rounds);
      await checkpoint(report, host, saved);
      await report.case(`${what}: shuts down when it is told; a managed one boots`, async () => {
        await host.mustXm('shutdown', '-w', saved.name);
        await gone(host, saved.name);
        await host.mustXm('new', host.config(kept.name, settings));
        await host.mustXm('start', kept.name);
        await kept.begin(VCPUS);
      });
      await managed(report, host, kept, rounds);
      await report.case('the hypervisor has nothing to tell', async () => {
        await host.mustXm('destroy', kept.name);
        const log = host.logOf('hypervisor');
        assert(!/hypervisor bug|crashed/.test(log), `its log tells of trouble:\n${log.slice(-2000)}`);
      });
    } catch (error) {
      report.row('the run', false, `${String(error)}\n${host.logs()}`);
    } finally {
      await host.stop();
    }
  }
  return report.close();
}
