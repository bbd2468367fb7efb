/** Many guests with a disk each, all reading at once: what the slowest gets of its fair share. */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type DeviceGuest, TestHost } from '@xenhost/testkit';
import { gioFigure, startOurs } from '../lib/device-machines.ts';
import { print } from '../lib/figures.ts';

const GUEST_MIB = 96;
const SPARE_MIB = 256;
const IMAGE_MIB = 16;
const SECONDS_A_GUEST = 0.5;
const TIMEOUT_MS = 300_000;

export interface FairnessOptions {
  readonly guests: number;
  readonly seconds: number;
  readonly jit: string | undefined;
}

export async function fairness(guest: DeviceGuest, { guests, seconds, jit }: FairnessOptions): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'xh-'));
  const host = await TestHost.start({ jit, memoryMiB: guests * GUEST_MIB + SPARE_MIB });
  try {
    const images = Array.from({ length: guests }, (_, i) => join(directory, `${i}.img`));
    for (const image of images) {
      writeFileSync(image, '');
      truncateSync(image, IMAGE_MIB << 20);
    }
    const machines = [];
    for (const [i, image] of images.entries())
      machines.push(
        await startOurs(host, guest, `disk-${i}`, { disk: [`file:${image},xvda,w`], memoryMiB: GUEST_MIB }),
      );
    const time = Math.ceil(seconds + guests * SECONDS_A_GUEST);
    const line = `gio rand /dev/xvda 4096 8 ${time} ${IMAGE_MIB}`;
    const outputs = await Promise.all(machines.map((machine) => machine.command(line, TIMEOUT_MS)));
    const rates = outputs.map((output) => {
      const figure = gioFigure(output);
      return figure.ops / figure.seconds;
    });
    const sum = rates.reduce((total, rate) => total + rate, 0);
    const slowest = Math.min(...rates);
    print({ name: 'fairness', unit: 'share', guests, together: sum, ours: slowest / (sum / guests) });
  } finally {
    await host.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}
