/** xm list, xm domstate. */
import { atomText, childValue, prettySxp } from '@xenhost/sxp';
import { OptionError } from '../errors.ts';
import { getopt } from '../getopt.ts';
import { format } from '../text.ts';
import { print } from '../world.ts';
import type { Run } from './command.ts';
import { domainRow, domains, type DomainRow } from './domain-rows.ts';

const HEADER = '%-40s %5s %5s %5s %10s %9s';
const ROW = '%-40s %5s %5d %5d %10s %8.1f';
const TITLES = ['Name', 'ID', 'Mem', 'VCPUs', 'State', 'Time(s)'];

const brief = (row: DomainRow): string =>
  format(ROW, row.name, row.domid, row.memoryMiB, row.vcpus, row.state, row.cpuTimeS);

export const list: Run = async (context, args) => {
  const { world, server } = context;
  const { options, words } = getopt(args, [
    { name: 'long', short: 'l', long: 'long' },
    { name: 'vcpus', short: 'v', long: 'vcpus' },
    { name: 'label', long: 'label' },
    { name: 'state', long: 'state', takesValue: true },
    { name: 'pool', long: 'pool', takesValue: true },
  ]);
  const given = new Map(options);
  const state = given.get('state') ?? 'all';
  const pool = given.get('pool');
  if (state !== 'all' && words.length > 0) {
    throw new OptionError('You may specify either a state or a particular VM, but not both');
  }
  if (pool !== undefined && words.length > 0) {
    throw new OptionError('You may specify either a pool or a particular VM, but not both');
  }
  if (given.has('vcpus')) {
    world.err('xm list -v is deprecated.  Please use xm vcpu-list.\n');
    return (await import('./vcpus.ts')).vcpuList(context, words);
  }
  const all = await domains(server, words, state, given.has('long'));
  const chosen = pool === undefined ? all : all.filter((domain) => atomText(childValue(domain, 'pool_name')) === pool);
  if (given.has('long')) {
    for (const domain of chosen) print(world, prettySxp(domain));
  } else if (given.has('label')) {
    print(world, format(`${HEADER} %-10s`, ...TITLES, 'Label'));
    // There are no labels without a security module.
    for (const domain of chosen) print(world, format(`%s %10s`, brief(domainRow(domain)), ''));
  } else {
    print(world, format(HEADER, ...TITLES));
    for (const domain of chosen) print(world, brief(domainRow(domain)));
  }
  return undefined;
};

/** Letters of the state in the order in which xm looks for them; it never looks at the first place. */
const STATE_WORDS: readonly (readonly [string, string])[] = [
  ['s', 'shutoff'],
  ['b', 'idle'],
  ['d', 'shutdown'],
  ['r', 'running'],
  ['c', 'crashed'],
];

export const domstate: Run = async ({ world, server }, args) => {
  const [name = ''] = args;
  const [domain] = await domains(server, [name], 'all');
  const state = domain === undefined ? '' : domainRow(domain).state;
  if (state === '') {
    print(world, 'shutoff');
    return undefined;
  }
  const word = STATE_WORDS.find(([letter]) => state.indexOf(letter) > 0)?.[1];
  if (word !== undefined) print(world, word);
  else if (state.indexOf('p') > 0) {
    print(world, (await server.call('xend.domain.getpauseflag', name)) === true ? 'paused by admin' : 'paused');
  }
  return undefined;
};
