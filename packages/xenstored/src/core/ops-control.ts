/** CONTROL: what `xenstore-control` asks for. */
import { splitStrings } from '@xenhost/xs-wire';
import { fail } from './failure.ts';
import { QUOTA_ROWS } from './limits.ts';
import { ACK, leadingInt } from './request.ts';
import type { Handler, Outcome, Request } from './request.ts';

interface Command {
  readonly parameters: string;
  run(request: Request, words: readonly string[]): Outcome;
}

const commands: Readonly<Record<string, Command>> = {
  check: {
    parameters: '',
    run: ({ core }, words) => {
      if (words.length > 0) return fail('EINVAL');
      return core.checkAccounts() ? ACK : fail('EIO');
    },
  },
  log: {
    parameters: 'on|off',
    run: ({ core }, [word]) => {
      if (word !== 'on' && word !== 'off') return fail('EINVAL');
      core.accessLog = word === 'on';
      return ACK;
    },
  },
  print: {
    parameters: '<string>',
    run: ({ core }, words) => {
      const [text] = words;
      if (text === undefined || words.length !== 1) return fail('EINVAL');
      core.log(`control: ${text}`, {});
      return ACK;
    },
  },
  quota: { parameters: '[set <name> <val>|<domid>]', run: quota },
  help: {
    parameters: '',
    run: (_request, words) => {
      if (words.length > 0) return fail('EINVAL');
      return `${Object.entries(commands)
        .map(([name, command]) => `${name}\t${command.parameters}\n`)
        .join('')}\0`;
    },
  },
};

function quota(request: Request, words: readonly string[]): Outcome {
  const { core } = request;
  const [first, name, value] = words;
  if (first === undefined) {
    const rows = QUOTA_ROWS.map(({ name: row, key, text }) => `${row.padEnd(17)}: ${pad8(core.quotas[key])} ${text}\n`);
    return `Quota settings:\n${rows.join('')}\0`;
  }
  if (first === 'set') {
    const key = QUOTA_ROWS.find((row) => row.name === name)?.key;
    const number = value === undefined ? 0 : leadingInt(value);
    if (words.length !== 3 || key === undefined || number < 1) return fail('EINVAL');
    core.quotas = { ...core.quotas, [key]: number };
    return ACK;
  }
  const domid = leadingInt(first);
  const domain = core.domains.get(domid);
  if (!domain && domid !== 0) return fail('ENOENT');
  const account = core.accounts.of(domid);
  const rows: readonly (readonly [string, number])[] = [
    ['nodes', account.nodes],
    ['watches', account.watches],
    ['transactions', account.transactions],
    ['outstanding', domain?.connection.output.replies ?? 0],
    ['memory', account.memory],
  ];
  return `Domain ${domid}:\n${rows.map(([label, n]) => `${label.padEnd(16)}: ${pad8(n)}\n`).join('')}\0`;
}

const pad8 = (n: number): string => String(n).padStart(8);

export const control: Handler = (request) => {
  const [name, ...words] = splitStrings(request.packet.payload).strings;
  const command = name === undefined || !Object.hasOwn(commands, name) ? undefined : commands[name];
  return command ? command.run(request, words) : fail('EINVAL');
};
