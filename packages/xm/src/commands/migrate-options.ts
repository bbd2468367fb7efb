/** The options of xm migrate (Xen 4.4 `migrate.py`), for the parser and the usage. */
import { optionHelp, type OptionRow } from '../options.ts';

export const MIGRATE_HELP = `[options] DOM HOST

Move domain DOM to host HOST. xend must run on both.
`;

export const MIGRATE_OPTIONS: readonly OptionRow[] = [
  { name: 'help', short: 'h', long: 'help', doc: 'Print this help.' },
  { name: 'live', short: 'l', long: 'live', doc: 'Accepted; the domain stands still while it is moved.' },
  { name: 'port', short: 'p', long: 'port', takesValue: true, value: 'portnum', doc: 'Port of the other host.' },
  { name: 'node', short: 'n', long: 'node', takesValue: true, value: 'nodenum', doc: 'NUMA node on the other host.' },
  { name: 'ssl', short: 's', long: 'ssl', doc: 'Encrypt what is sent.' },
  {
    name: 'change_home_server',
    short: 'c',
    long: 'change_home_server',
    doc: "Hand a managed domain's configuration over too.",
  },
];

export const migrateHelp = (): string => optionHelp(MIGRATE_OPTIONS);
