/** Many guests with a disk and an interface each, all at work at once: every byte right, and no device starves. */
import { assert, type ConsoleSession } from '@xenhost/testkit';
import { must, raw, type World } from './world.ts';
import { linked, serve } from './network.ts';

const GUEST_MIB = 96;
const SPARE_MIB = 384;
const IMAGE_MIB = 16;
const SPAN_KIB = 2 << 10;
const SECONDS_A_GUEST = 0.6;
const WARM_UP_SECONDS = 4;
/** From the first command of a part to the time that is counted: all are at work by then. */
const LEAD_SECONDS = 4;
const LEAD_SECONDS_A_GUEST = 0.5;
const TIMEOUT_MS = 900_000;
/** Of its fair share. */
const LEAST = 0.5;

export async function manyPart(world: World): Promise<void> {
  const { report } = world;
  const count = world.options.guests;
  await world.withHost(
    async (host) => {
      const shells: ConsoleSession[] = [];
      const server = await world.start(host, 'server', { vif: [''], memoryMiB: GUEST_MIB });
      await linked(server, '10.9.0.254');
      await serve(server);
      for (let i = 0; i < count; i++) {
        const disk = `file:${await world.image(raw, `many-${i}`, IMAGE_MIB)},xvda,w`;
        const shell = await world.start(host, `many-${i}`, { disk: [disk], vif: [''], memoryMiB: GUEST_MIB });
        await linked(shell, `10.9.0.${i + 1}`);
        shells.push(shell);
      }
      const seconds = Math.ceil(4 + count * SECONDS_A_GUEST);
      const shares = async (what: string, lines: (index: number) => string, figure: RegExp): Promise<void> => {
        await report.case(`${count} guests at once: ${what}`, async () => {
          const outputs = await Promise.all(shells.map((shell, i) => must(shell, lines(i), TIMEOUT_MS)));
          const done = outputs.map((output) => Number(figure.exec(output)?.[1] ?? NaN));
          const fair = done.reduce((sum, each) => sum + each, 0) / count;
          const least = Math.min(...done) / fair;
          assert(least >= LEAST, `the slowest got ${least.toFixed(2)} of its fair share (${done.join(' ')})`);
          return `the slowest got ${least.toFixed(2)} of its fair share`;
        });
      };
      const script = (line: string): string =>
        `sh -c 'n=0; e=$(($(cut -d. -f1 /proc/uptime)+${seconds})); while [ $(cut -d. -f1 /proc/uptime) -lt $e ]; ` +
        `do ${line} >/tmp/out || { cat /tmp/out; exit 1; }; n=$((n+1)); done; echo rounds=$n'`;
      // Shares are of guests at work: not of the first minute, in which one is still being compiled and another is done with that.
      await Promise.all(
        shells.map((shell, i) =>
          must(shell, `gio fsx /dev/xvda ${SPAN_KIB} ${WARM_UP_SECONDS} ${i + 1} 4`, TIMEOUT_MS),
        ),
      );
      // And of one time: who began late and ended alone would have more than who worked beside all others.
      const from = Math.ceil(Date.now() / 1000 + LEAD_SECONDS + count * LEAD_SECONDS_A_GUEST);
      const random = (i: number): string => `gio shared /dev/xvda ${SPAN_KIB} ${seconds} ${i + 1} 4 ${from}`;
      await shares('random requests', random, /^GIO ops=(\d+)/m);
      await shares('transfers to one more', (i) => script(`gio send 10.9.0.254 5577 1 ${i + 1}`), /^rounds=(\d+)/m);
    },
    (count + 1) * GUEST_MIB + SPARE_MIB,
  );
}
