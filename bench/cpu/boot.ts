/**
 * From `xm create` to GUEST-READY, against QEMU's TCG from the start of its process: Debian's cloud kernel the quick way, TCG
 * by the PVH entry of the same kernel's ELF; and the full kernel with all modules, TCG from the same file.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { unpackKernel } from '@xenhost/libxenctrl';
import { TestHost } from '@xenhost/testkit';
import { median, print } from '../lib/figures.ts';
import { benchGuest, QUICK_BOOT } from './guests.ts';
import { BOOT_TIMEOUT_MS, createGuest, type GuestOptions, READY, startTcg } from './machines.ts';
import type { RatesOptions } from './rates.ts';

interface Case {
  readonly name: string;
  readonly ours: GuestOptions;
  readonly tcg: GuestOptions;
}

async function cases(tools: string): Promise<Case[]> {
  const cloud = await benchGuest('cloud', tools);
  const full = await benchGuest('amd64', tools, true);
  const elf = `${cloud.kernel}.elf`;
  writeFileSync(elf, await unpackKernel(readFileSync(cloud.kernel)));
  const quick = { ramdisk: cloud.ramdisk, extra: QUICK_BOOT };
  const whole = { kernel: full.kernel, ramdisk: full.ramdisk, extra: 'quiet' };
  return [
    { name: 'boot-cloud', ours: { ...quick, kernel: cloud.kernel }, tcg: { ...quick, kernel: elf } },
    { name: 'boot-amd64-all-modules', ours: whole, tcg: whole },
  ];
}

async function seconds(body: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await body();
  return (performance.now() - start) / 1000;
}

async function tcgBoot(options: GuestOptions): Promise<number> {
  const start = performance.now();
  const console = startTcg(options);
  try {
    await console.expect(READY, BOOT_TIMEOUT_MS);
    return (performance.now() - start) / 1000;
  } finally {
    console.close();
  }
}

/** Resolves to the number of figures that failed. */
export async function boot({ tools, jit, runs, machines }: RatesOptions): Promise<number> {
  const host = await TestHost.start({ jit });
  try {
    for (const { name, ours, tcg } of await cases(tools)) {
      const mine: number[] = [];
      const theirs: number[] = [];
      for (let i = 0; i < runs; i++) {
        const domain = `${name}-${i}`;
        mine.push(await seconds(() => createGuest(host, domain, ours)));
        await host.mustXm('destroy', domain);
        if (machines.includes('tcg')) theirs.push(await tcgBoot(tcg));
      }
      const [own, peer] = [median(mine), theirs.length > 0 ? median(theirs) : undefined];
      print({ name, unit: 's', ours: own, tcg: peer, ratioToTcg: peer === undefined ? undefined : peer / own });
    }
  } finally {
    await host.stop();
  }
  return 0;
}
