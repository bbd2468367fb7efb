/** xm list, xm domstate. */
import { atomText, childValue, prettySxp, type Sxp } from '@xenhost/sxp';
import { getopt, wrongArguments } from '../getopt.ts';
import { format } from '../text.ts';
import { print } from '../world.ts';
import type { CommandContext, Run } from './command.ts';
import { asText, domainJson, domainRow, domains, printJson, sxpJson, type DomainRow } from './domain-rows.ts';

const HEADER = '%-40s %5s %5s %5s %10s %9s';
const ROW = '%-40s %5s %5d %5d %10s %8.1f';
const TITLES = ['Name', 'ID', 'Mem', 'VCPUs', 'State', 'Time(s)'];

const brief = (row: DomainRow): string =>
  format(ROW, row.name, row.domid, row.memoryMiB, row.vcpus, row.state, row.cpuTimeS);

export const list: Run = async (context, args) => {
  const { world } = context;
  const { options, words } = getopt(args, [
    { name: 'long', short: 'l', long: 'long' },
    { name: 'vcpus', short: 'v', long: 'vcpus' },
    { name: 'label', long: 'label' },
    { name: 'state', long: 'state', takesValue: true },
    { name: 'pool', long: 'pool', takesValue: true },
  ]);
  const given = new Map(options);
  const state = given.get('state') ?? 'all';
  const pool = given.get('pool') === '' ? undefined : given.get('pool');
  if (state !== 'all' && words.length > 0) {
    throw wrongArguments('You may specify either a state or a particular VM, but not both');
  }
  if (pool !== undefined && words.length > 0) {
    throw wrongArguments('You may specify either a pool or a particular VM, but not both');
  }
  if (given.has('vcpus')) {
    world.err('xm list -v is deprecated.  Please use xm vcpu-list.\n');
    return (await import('./vcpus.ts')).vcpuList(context, words);
  }
  const chosen = await domains(context, words, { state, full: given.has('long'), pool });
  if (context.json)
    return printJson(context, chosen.map(given.has('long') ? sxpJson : (sxp) => domainJson(domainRow(sxp))));
  if (given.has('long')) {
    for (const domain of chosen) print(world, prettySxp(domain));
  } else if (given.has('label')) {
    await listLabels(context, chosen);
  } else {
    print(world, format(HEADER, ...TITLES));
    for (const domain of chosen) print(world, brief(domainRow(domain)));
  }
  return undefined;
};

/** Sorted by label, as they came where those are the same. */
async function listLabels({ world, server, api }: CommandContext, chosen: readonly Sxp[]): Promise<void> {
  const labelled: { readonly line: string; readonly label: string }[] = [];
  for (const domain of chosen) {
    const row = domainRow(domain);
    // xend's dummy security module takes every label for none.
    const asked = api ? '' : asText(await server.call('xend.security.get_domain_label', row.name));
    const label = asked.startsWith("'") ? asked.slice(1) : asked;
    labelled.push({ line: format('%s %10s', brief(row), label), label: label.toLowerCase() });
  }
  labelled.sort((a, b) => (a.label < b.label ? -1 : a.label > b.label ? 1 : 0));
  print(world, format(`${HEADER} %-10s`, ...TITLES, 'Label'));
  for (const { line } of labelled) print(world, line);
}

/** Letters of the state in the order in which xm looks for them; it never looks at the first place. */
const STATE_WORDS: readonly (readonly [string, string])[] = [
  ['s', 'shutoff'],
  ['b', 'idle'],
  ['d', 'shutdown'],
  ['r', 'running'],
  ['c', 'crashed'],
];

export const domstate: Run = async (context, args) => {
  const { world, server } = context;
  // Xen 4.4 reads options here that it has no use for.
  const { words } = getopt(args, [
    { name: 's', short: 's' },
    { name: 'domname', long: 'domname', takesValue: true },
  ]);
  const [name = ''] = words;
  const [domain] = await domains(context, [name]);
  const state = domain === undefined ? '' : (atomText(childValue(domain, 'state')) ?? '');
  if (state === '') {
    print(world, 'shutoff');
    return undefined;
  }
  const word = STATE_WORDS.find(([letter]) => state.indexOf(letter) > 0)?.[1];
  if (word !== undefined) print(world, word);
  else if (state.indexOf('p') > 0) {
    // With the Xen-API there is no flag to ask for, and xm took that for a yes.
    const flagged = context.api !== undefined || (await server.call('xend.domain.getpauseflag', name));
    print(world, flagged ? 'paused by admin' : 'paused');
  }
  return undefined;
};
