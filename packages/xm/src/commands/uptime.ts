/** xm uptime. */
import { readFile } from 'node:fs/promises';
import { getopt } from '../getopt.ts';
import { format } from '../text.ts';
import { print } from '../world.ts';
import type { Run } from './command.ts';
import { domainRow, domains } from './domain-rows.ts';

export const uptime: Run = async ({ world, server }, args) => {
  const { options, words } = getopt(args, [{ name: 'short', short: 's', long: 'short' }]);
  const short = options.length > 0;
  const rows = (await domains(server, words, 'all')).map(domainRow);
  if (!short) print(world, format('%-33s %4s %s ', 'Name', 'ID', 'Uptime'));
  const now = world.now();
  for (const { name, domid, startTimeS } of rows) {
    const seconds =
      domid === '' || startTimeS === undefined
        ? 0
        : domid === '0'
          ? await hostUptime()
          : Math.max(0, Math.round(now.getTime() / 1000 - startTimeS));
    const up = `${daysText(seconds)}${format('%2d:', Math.floor((seconds % 86400) / 3600))}${two((seconds % 3600) / 60)}`;
    if (short) {
      const clock = [now.getHours(), now.getMinutes(), now.getSeconds()].map(two).join(':');
      print(world, ` ${clock} up ${up}, ${name} (${domid})`);
    } else {
      print(world, `${format('%-32s %5s ', name, domid)}${up}:${two(seconds % 60)}`);
    }
  }
  return undefined;
};

const two = (n: number): string => String(Math.floor(n)).padStart(2, '0');

function daysText(seconds: number): string {
  const days = Math.floor(seconds / 86400);
  return days === 0 ? '' : `${days} day${days > 1 ? 's' : ''}, `;
}

/** Domain-0 is up as long as the machine. */
async function hostUptime(): Promise<number> {
  try {
    return Math.round(Number.parseFloat(await readFile('/proc/uptime', 'utf8')));
  } catch {
    return Math.round((await import('node:os')).uptime());
  }
}
