/** Guests of a hypervisor in a browser: our console shell as a PV guest, and a kernel from outside when one is given. */
import { consoleShellPrompt } from '@xenhost/guest-kernels';
import { ShutdownReason } from '@xenhost/libxenctrl';
import { BrowserHost } from './host.ts';
import type { Guest } from './host.ts';
import { expectEqual, runCase, scope } from './scope.ts';
import type { CasesMessage, CasesStart, KernelCase } from './scope.ts';

const GUEST_KIB = 8 * 1024;
const SHELL_HOST_MIB = 64;
/** Machine memory beside that of a kernel from outside. */
const HOST_EXTRA_MIB = 64;
const TIMEOUT_MS = 30_000;

const bytesOf = async (path: string): Promise<Uint8Array> => new Uint8Array(await (await fetch(path)).arrayBuffer());

async function shutdownReason(host: BrowserHost, guest: Guest): Promise<number | undefined> {
  await guest.until('the guest is shut down', TIMEOUT_MS, async () => {
    const info = await host.xc.domainGetinfo(guest.domid);
    return info?.shutdown === true || info?.crashed === true;
  });
  return (await host.xc.domainGetinfo(guest.domid))?.shutdownReason;
}

async function shell(jit: CasesStart['jit']): Promise<void> {
  const host = new BrowserHost({ memoryMiB: SHELL_HOST_MIB, jit });
  const before = (await host.xc.physinfo()).freePages;
  const guest = await host.boot({ kernel: await bytesOf('/shell'), memoryKiB: GUEST_KIB });
  await runCase(`jit ${jit}: PV guest shows its prompt`, async () => {
    await guest.expect(consoleShellPrompt, TIMEOUT_MS);
    return '';
  });
  await runCase(`jit ${jit}: PV guest answers what is typed`, async () => {
    await guest.type('echo hello from a browser');
    await guest.expect('echo hello from a browser', TIMEOUT_MS);
    await guest.expect('hello from a browser\r\n', TIMEOUT_MS);
    return '';
  });
  await runCase(`jit ${jit}: PV guest tells its events`, async () => {
    await guest.expect(consoleShellPrompt, TIMEOUT_MS);
    await guest.type('events');
    return (await guest.expect(consoleShellPrompt, TIMEOUT_MS)).split(/[\r\n]+/)[1] ?? '';
  });
  await runCase(`jit ${jit}: PV guest powers off and leaves nothing`, async () => {
    await guest.type('poweroff');
    expectEqual('reason', await shutdownReason(host, guest), ShutdownReason.poweroff);
    await host.xc.domainDestroy(guest.domid);
    expectEqual('free pages', (await host.xc.physinfo()).freePages, before);
    return '';
  });
  await host.stop();
}

async function kernel(jit: CasesStart['jit'], wanted: KernelCase): Promise<void> {
  await runCase(`jit ${jit}: kernel boots to '${wanted.until}'`, async () => {
    const host = new BrowserHost({ memoryMiB: wanted.memoryMiB + HOST_EXTRA_MIB, jit });
    const image = await bytesOf('/kernel');
    const ramdisk = wanted.hasRamdisk ? { ramdisk: await bytesOf('/ramdisk') } : {};
    const options = { kernel: image, memoryKiB: wanted.memoryMiB * 1024, cmdline: wanted.cmdline };
    const guest = await host.boot({ ...options, ...ramdisk });
    await guest.expect(wanted.until, wanted.timeoutMs);
    await host.xc.domainDestroy(guest.domid);
    await host.stop();
    return '';
  });
}

scope.onmessage = ({ data }) => {
  const { jit, kernel: wanted } = data as CasesStart;
  void (async () => {
    await runCase(`jit ${jit}: host in a browser`, async () => {
      await shell(jit);
      if (wanted) await kernel(jit, wanted);
      return 'starts and stops';
    });
    const done: CasesMessage = { kind: 'done' };
    scope.postMessage(done);
  })();
};
