/** CONTROL: what `xenstore-control` asks for (xenstored_control.c). */
import { fail } from './failure.ts';
import { liveUpdate } from './live-update.ts';
import { QUOTA_ROWS, SOFT_QUOTA_ROWS } from './limits.ts';
import type { QuotaRow } from './limits.ts';
import { memoryReport } from './memory-report.ts';
import { ACK, leadingInt, strings } from './request.ts';
import type { Handler, Outcome, Request } from './request.ts';

interface Command {
  readonly name: string;
  readonly parameters: string;
  run(request: Request, words: readonly string[]): Outcome;
}

/** In the order of `help`. */
const COMMANDS: readonly Command[] = [
  {
    name: 'check',
    parameters: '',
    run: ({ core }, words) => {
      if (words.length > 0) return fail('EINVAL');
      return core.checkAccounts() ? ACK : fail('EIO');
    },
  },
  {
    name: 'log',
    parameters: 'on|off',
    run: ({ core }, words) => {
      const [word] = words;
      if (words.length !== 1 || (word !== 'on' && word !== 'off')) return fail('EINVAL');
      core.accessLog = word === 'on';
      core.control.setTrace?.(core.accessLog);
      return ACK;
    },
  },
  {
    name: 'live-update',
    parameters: '[-c <cmdline>] [-F] [-t <timeout>] <file>\n    Default timeout is 60 seconds.',
    run: liveUpdate,
  },
  {
    name: 'logfile',
    parameters: '<file>',
    run: ({ core }, words) => {
      const [file] = words;
      if (words.length !== 1 || file === undefined || !core.control.setTraceFile) return fail('EINVAL');
      core.control.setTraceFile(file);
      core.accessLog = true;
      return ACK;
    },
  },
  {
    name: 'memreport',
    parameters: '[<file>]',
    // EBADF of the C daemon, where nothing can be written, is no error that clients know: they get EINVAL.
    run: ({ core }, words) =>
      words.length <= 1 && core.control.appendReport?.(words[0], memoryReport(core)) === true ? ACK : fail('EINVAL'),
  },
  {
    name: 'print',
    parameters: '<string>',
    run: ({ core }, words) => {
      const [text] = words;
      if (text === undefined || words.length !== 1) return fail('EINVAL');
      core.log(`control: ${text}`, {});
      return ACK;
    },
  },
  {
    name: 'quota',
    parameters: '[set <name> <val>|<domid>]',
    run: (request, words) => {
      const [first] = words;
      if (first === undefined) return quotaSettings(request, QUOTA_ROWS);
      if (first === 'set') return setQuota(request, QUOTA_ROWS, words.slice(1));
      return words.length === 1 ? quotaUse(request, leadingInt(first)) : fail('EINVAL');
    },
  },
  {
    name: 'quota-soft',
    parameters: '[set <name> <val>]',
    run: (request, words) => {
      const [first] = words;
      if (first === undefined) return quotaSettings(request, SOFT_QUOTA_ROWS);
      return first === 'set' ? setQuota(request, SOFT_QUOTA_ROWS, words.slice(1)) : fail('EINVAL');
    },
  },
  {
    name: 'help',
    parameters: '',
    run: (_request, words) => {
      if (words.length > 0) return fail('EINVAL');
      return `${COMMANDS.map(({ name, parameters }) => `${name}\t${parameters}\n`).join('')}\0`;
    },
  },
];

function quotaSettings({ core }: Request, table: readonly QuotaRow[]): string {
  const rows = table.map(({ name, key, text }) => `${name.padEnd(17)}: ${pad8(core.quotas[key])} ${text}\n`);
  return `Quota settings:\n${rows.join('')}\0`;
}

function setQuota({ core }: Request, table: readonly QuotaRow[], words: readonly string[]): Outcome {
  const [name, value] = words;
  if (words.length !== 2 || value === undefined) return fail('EINVAL');
  const key = table.find((row) => row.name === name)?.key;
  const number = leadingInt(value);
  if (key === undefined || number < 1) return fail('EINVAL');
  core.quotas = { ...core.quotas, [key]: number };
  return ACK;
}

function quotaUse({ core }: Request, domid: number): Outcome {
  if (!core.known.isKnown(domid)) return fail('ENOENT');
  const { nodes, watches, transactions, outstanding, memory } = core.accounts.of(domid);
  const rows = Object.entries({ nodes, watches, transactions, outstanding, memory });
  return `Domain ${domid}:\n${rows.map(([label, n]) => `${label.padEnd(16)}: ${pad8(n)}\n`).join('')}\0`;
}

const pad8 = (n: number): string => String(n).padStart(8);

/** Words that live-update may have, itself included; more are passed over. */
const LIVE_UPDATE_WORDS_MAX = 5;

export const control: Handler = (request) => {
  const [name, ...words] = strings(request.packet.payload);
  const command = COMMANDS.find((each) => each.name === name);
  if (!command) return fail('EINVAL');
  return command.run(request, name === 'live-update' ? words.slice(0, LIVE_UPDATE_WORDS_MAX - 1) : words);
};
