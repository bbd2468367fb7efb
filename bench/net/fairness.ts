/** Many guests with an interface each, all sending to one more at once: what the slowest gets of its fair share. */
import { type DeviceGuest, TestHost } from '@xenhost/testkit';
import { startOurs } from '../lib/device-machines.ts';
import { print } from '../lib/figures.ts';

const GUEST_MIB = 96;
const SPARE_MIB = 384;
const PIECE_MIB = 1;
const TIMEOUT_MS = 600_000;
const MEGABYTE = 1e6;

export interface FairnessOptions {
  readonly guests: number;
  readonly seconds: number;
  readonly jit: string | undefined;
}

export async function fairness(guest: DeviceGuest, { guests, seconds, jit }: FairnessOptions): Promise<void> {
  const host = await TestHost.start({ jit, memoryMiB: (guests + 1) * GUEST_MIB + SPARE_MIB });
  try {
    const up = (ip: string): string => `ip addr add ${ip}/24 dev eth0; ip link set eth0 up`;
    const sink = await startOurs(host, guest, 'sink', { vif: [''], memoryMiB: GUEST_MIB });
    await sink.command(`${up('10.9.0.254')}; (gio serve 5577 >/tmp/serve 2>&1 &)`, TIMEOUT_MS);
    const machines = [];
    for (let i = 0; i < guests; i++) {
      const machine = await startOurs(host, guest, `net-${i}`, { vif: [''], memoryMiB: GUEST_MIB });
      await machine.command(up(`10.9.0.${i + 1}`), TIMEOUT_MS);
      machines.push(machine);
    }
    const now = '$(cut -d. -f1 /proc/uptime)';
    const line =
      `sh -c 'n=0; e=$((${now}+${seconds})); while [ ${now} -lt $e ]; ` +
      `do gio send 10.9.0.254 5577 ${PIECE_MIB} 0 >/dev/null || exit 1; n=$((n+1)); done; echo pieces=$n'`;
    const outputs = await Promise.all(machines.map((machine) => machine.command(line, TIMEOUT_MS)));
    const pieces = outputs.map((output) => {
      const count = /^pieces=(\d+)/m.exec(output)?.[1];
      if (count === undefined) throw new Error(`a guest failed: ${JSON.stringify(output.slice(-500))}`);
      return Number(count);
    });
    const sum = pieces.reduce((total, each) => total + each, 0);
    const together = (sum * PIECE_MIB * (1 << 20)) / MEGABYTE / seconds;
    print({ name: 'fairness', unit: 'share', guests, together, ours: Math.min(...pieces) / (sum / guests) });
  } finally {
    await host.stop();
  }
}
