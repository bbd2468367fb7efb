/** xm sched-credit; sched-credit2 and sched-sedf, whose schedulers this hypervisor does not have. */
import { atomText, childValue } from '@xenhost/sxp';
import { XmlRpcFault } from '@xenhost/xmlrpc-codec';
import { CommandFailed, Exit } from '../errors.ts';
import { getopt } from '../getopt.ts';
import { format } from '../text.ts';
import { print, printError } from '../world.ts';
import type { CommandContext, Run } from './command.ts';
import { wholeNumber } from './domain.ts';
import { asSxp, domainRow, domains } from './domain-rows.ts';

async function requireScheduler({ server }: CommandContext, wanted: string): Promise<void> {
  const current = atomText(childValue(asSxp(await server.call('xend.node.info', 0)), 'xen_scheduler')) ?? 'unknown';
  if (current !== wanted) throw new CommandFailed(`Xen is running with the ${current} scheduler`);
}

export const schedCredit: Run = async (context, args) => {
  const { world, server } = context;
  await requireScheduler(context, 'credit');
  const { options } = getopt(args, [
    { name: 'domain', short: 'd', long: 'domain', takesValue: true },
    { name: 'weight', short: 'w', long: 'weight', takesValue: true },
    { name: 'cap', short: 'c', long: 'cap', takesValue: true },
  ]);
  const given = new Map(options);
  const wanted = given.get('domain');
  const [weight, cap] = ['weight', 'cap'].map((name) => {
    const text = given.get(name);
    return text === undefined ? null : wholeNumber(text);
  });
  if (weight !== null || cap !== null) {
    if (wanted === undefined) {
      printError(world, 'No domain given.');
      throw new Exit(1, { usage: true });
    }
    await server.call('xend.domain.sched_credit_set', wanted, weight ?? null, cap ?? null);
    return undefined;
  }
  const rows = (await domains(server, [], 'all')).map(domainRow);
  const chosen = rows.filter((row) => wanted === undefined || wanted === row.name || wanted === row.domid);
  if (wanted !== undefined && chosen.length === 0) {
    printError(world, `Domain '${wanted}' does not exist.`);
    throw new Exit(1, { usage: true });
  }
  print(world, format('%-33s %4s %6s %4s', 'Name', 'ID', 'Weight', 'Cap'));
  for (const row of chosen) {
    const credit = await creditOf(context, row.name);
    print(world, format('%-32s %5s %6d %4d', row.name, row.domid, credit.weight, credit.cap));
  }
  return undefined;
};

async function creditOf({ server }: CommandContext, name: string): Promise<{ weight: number; cap: number }> {
  try {
    const credit = await server.call('xend.domain.sched_credit_get', name);
    const { weight, cap } = credit as { weight?: unknown; cap?: unknown };
    return { weight: Number(weight ?? -1), cap: Number(cap ?? -1) };
  } catch (error) {
    if (!(error instanceof XmlRpcFault)) throw error;
    return { weight: -1, cap: -1 };
  }
}

const absent =
  (scheduler: string, name: string): Run =>
  async (context) => {
    await requireScheduler(context, scheduler);
    throw new CommandFailed(`xm ${name} is not supported in this version`);
  };

export const schedCredit2 = absent('credit2', 'sched-credit2');
export const schedSedf = absent('sedf', 'sched-sedf');
