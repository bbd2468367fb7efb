/** xm sched-credit, sched-credit2, sched-sedf. */
import { atomNumber, atomText, childValue } from '@xenhost/sxp';
import type { XmlRpcFault, XmlRpcStruct, XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { CommandFailed, InvalidArgument } from '../errors.ts';
import { getopt, getoptStrict } from '../getopt.ts';
import { format } from '../text.ts';
import { print, printError } from '../world.ts';
import { isStruct, numberOf } from '../xen-api/values.ts';
import type { CommandContext, Run } from './command.ts';
import { asSxp, asText, domainRow, domains, printJson, type DomainRow } from './domain-rows.ts';
import { wholeNumber } from './numbers.ts';
import { refused } from './words.ts';

async function requireScheduler({ server, api }: CommandContext, wanted: string): Promise<void> {
  const current = api
    ? await api.text('host.get_sched_policy', await api.host())
    : (atomText(childValue(asSxp(await server.call('xend.node.info')), 'xen_scheduler')) ?? 'unknown');
  if (current !== wanted) throw new CommandFailed(`Xen is running with the ${current} scheduler`);
}

async function chosenDomains(context: CommandContext, wanted: string | undefined, state: string): Promise<DomainRow[]> {
  const rows = (await domains(context, [], { state })).map(domainRow);
  return rows.filter((row) => wanted === undefined || wanted === row.name || wanted === row.domid);
}

/** One of the two credit schedulers: which parameters it has, in the order of its method. */
interface CreditKind {
  readonly scheduler: 'credit' | 'credit2';
  readonly parameters: readonly ['weight', 'cap'] | readonly ['weight'];
  readonly header: string;
  readonly row: string;
}

const creditCommand =
  (kind: CreditKind): Run =>
  async (context, args) => {
    const { world, server, api } = context;
    await requireScheduler(context, kind.scheduler);
    const { options } = getoptStrict(args, [
      { name: 'domain', short: 'd', long: 'domain', takesValue: true },
      ...kind.parameters.map((name) => ({ name, short: name.charAt(0), long: name, takesValue: true })),
    ]);
    const given = new Map(options);
    const wanted = given.get('domain');
    const values = kind.parameters.map((name) => {
      const text = given.get(name);
      return text === undefined ? null : wholeNumber(text);
    });
    if (values.every((value) => value === null)) {
      const rows = await chosenDomains(context, wanted, 'all');
      if (wanted !== undefined && rows.length === 0) throw refused(world, `Domain '${wanted}' does not exist.`);
      return showCredit(context, kind, rows);
    }
    if (wanted === undefined) throw refused(world, 'No domain given.');
    if (api) {
      for (const [i, name] of kind.parameters.entries()) {
        await api.call('VM.add_to_VCPUs_params_live', await api.vm(wanted), name, values[i] ?? null);
      }
      return undefined;
    }
    const result = await server.call(`xend.domain.sched_${kind.scheduler}_set`, wanted, ...values);
    if (result !== 0) printError(world, asText(result));
    return undefined;
  };

async function showCredit(context: CommandContext, kind: CreditKind, rows: readonly DomainRow[]): Promise<number> {
  const shown: Record<string, string | number>[] = [];
  for (const { name, domid } of rows) shown.push({ name, domid, ...(await creditOf(context, kind, name)) });
  if (context.json) {
    return printJson(
      context,
      shown.map((row) => ({ ...row, domid: row['domid'] === '' ? null : Number(row['domid']) })),
    );
  }
  const titles = ['Name', 'ID', 'Weight', 'Cap'].slice(0, 2 + kind.parameters.length);
  print(context.world, format(kind.header, ...titles));
  for (const row of shown) print(context.world, format(kind.row, ...Object.values(row)));
  return 0;
}

/** -1 where a domain has no such parameter. */
async function creditOf(
  { server, api }: CommandContext,
  kind: CreditKind,
  name: string,
): Promise<Record<string, number>> {
  let found: XmlRpcStruct = {};
  try {
    const answer: XmlRpcValue = api
      ? await api.call('VM_metrics.get_VCPUs_params', await api.text('VM.get_metrics', await api.vm(name)))
      : await server.call(`xend.domain.sched_${kind.scheduler}_get`, name);
    if (isStruct(answer)) found = answer;
  } catch (error) {
    if (!isFault(error)) throw error;
  }
  const whole = kind.parameters.every((parameter) => parameter in found);
  return Object.fromEntries(kind.parameters.map((parameter) => [parameter, whole ? numberOf(found[parameter]) : -1]));
}

const isFault = (error: unknown): error is XmlRpcFault => error instanceof Error && error.name === 'XmlRpcFault';

export const schedCredit = creditCommand({
  scheduler: 'credit',
  parameters: ['weight', 'cap'],
  header: '%-33s %4s %6s %4s',
  row: '%-32s %5s %6d %4d',
});

export const schedCredit2 = creditCommand({
  scheduler: 'credit2',
  parameters: ['weight'],
  header: '%-33s %4s %6s',
  row: '%-32s %5s %6d',
});

const NS_PER_MS = 1e6;
const SEDF_KEYS = ['period', 'slice', 'latency', 'extratime', 'weight'] as const;
/** Given and shown in milliseconds, sent in nanoseconds. */
const SEDF_TIMES: readonly string[] = ['period', 'slice', 'latency'];

export const schedSedf: Run = async (context, args) => {
  const { world, server } = context;
  await requireScheduler(context, 'sedf');
  const [wanted, ...rest] = args;
  const { options } = getopt(
    rest,
    SEDF_KEYS.map((name) => ({ name, short: name.charAt(0), long: name, takesValue: true })),
  );
  const changes = new Map(options.map(([name, text]) => [name, sedfValue(name, text)]));
  const rows = await chosenDomains(context, wanted, 'running');
  if (wanted !== undefined && rows.length === 0) throw refused(world, `Domain '${wanted}' does not exist.`);
  const shown: Record<string, string | number>[] = [];
  for (const { name, domid } of rows) {
    const current = await sedfOf(context, domid);
    const value = (key: string): number => changes.get(key) ?? current[key] ?? -1;
    if (changes.size > 0) {
      const result = numberOf(await server.call('xend.domain.cpu_sedf_set', domid, ...SEDF_KEYS.map(value)));
      if (result !== 0) printError(world, `Failed to set sedf parameters (rv=${result}).`);
      continue;
    }
    const inMs = SEDF_KEYS.map((key) => [key, SEDF_TIMES.includes(key) ? value(key) / NS_PER_MS : value(key)]);
    shown.push({ name, domid, ...(Object.fromEntries(inMs) as Record<string, number>) });
  }
  if (changes.size > 0) return undefined;
  if (context.json)
    return printJson(
      context,
      shown.map((row) => ({ ...row, domid: Number(row['domid']) })),
    );
  print(world, format('%-33s %4s %-4s %-4s %-7s %-5s %-6s', 'Name', 'ID', 'Period(ms)', 'Slice(ms)', 'Lat(ms)', 'Extra', 'Weight')); // prettier-ignore
  for (const row of shown) {
    print(world, format('%-32s %5d %9.1f %9.1f %7.1f %6d %6d', ...Object.values(row)));
  }
  return undefined;
};

function sedfValue(name: string, text: string): number {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  if (!Number.isFinite(value)) throw new InvalidArgument();
  return Math.trunc(SEDF_TIMES.includes(name) ? value * NS_PER_MS : value);
}

async function sedfOf({ server }: CommandContext, domid: string): Promise<Record<string, number>> {
  try {
    const sedf = asSxp(await server.call('xend.domain.cpu_sedf_get', domid));
    return Object.fromEntries(SEDF_KEYS.map((key) => [key, atomNumber(childValue(sedf, key)) ?? -1]));
  } catch (error) {
    if (!isFault(error)) throw error;
    return {};
  }
}
