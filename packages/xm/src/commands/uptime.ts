/** xm uptime. */
import { readFile } from 'node:fs/promises';
import { getopt } from '../getopt.ts';
import { format } from '../text.ts';
import { print } from '../world.ts';
import type { Run } from './command.ts';
import { domainRow, domains, printJson, type DomainRow } from './domain-rows.ts';

export const uptime: Run = async (context, args) => {
  const { world } = context;
  const { options, words } = getopt(args, [{ name: 'short', short: 's', long: 'short' }]);
  const short = options.length > 0;
  const rows = (await domains(context, words)).map(domainRow);
  const now = world.now();
  if (context.json) {
    const shown: unknown[] = [];
    for (const row of rows) {
      const domid = row.domid === '' ? null : Number(row.domid);
      shown.push({ name: row.name, domid, uptime_s: await secondsUp(row, now) });
    }
    return printJson(context, shown);
  }
  if (!short) print(world, format('%-33s %4s %s ', 'Name', 'ID', 'Uptime'));
  for (const row of rows) {
    const { name, domid } = row;
    const seconds = await secondsUp(row, now);
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

async function secondsUp({ domid, startTimeS }: DomainRow, now: Date): Promise<number> {
  if (domid === '0') return hostUptime();
  // A halted machine has no number; of the Xen-API it is -1.
  if (domid === '' || domid === '-1' || startTimeS === undefined) return 0;
  return Math.max(0, Math.round(now.getTime() / 1000 - startTimeS));
}

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
