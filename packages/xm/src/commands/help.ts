/** Usage of one command, and the short and long list of all. */
import { format, wrap } from '../text.ts';
import { JSON_OPTION, type Command } from './command.ts';
import { COMMON_ORDER, HELP_ROW, commands } from './table.ts';

const HEAD = 'Usage: xm <subcommand> [args]\n\nControl, list, and manipulate Xen guest instances.\n\n';
const FOOT =
  "<Domain> can either be the Domain Name or Id.\nFor more help on 'xm' see the xm(1) man page.\n" +
  "For more help on 'xm create' see the xmdomain.cfg(5)  man page.\n\n";
const DOC_WIDTH = 50;
const OPTION_DOC_WIDTH = 43;

/** `moreOptions`: what a command with its own option parser adds. */
export function usage(command: Command, moreOptions = ''): string {
  const lines = [`Usage: xm ${command.name} ${command.args}`, '', command.doc];
  const options = [...(command.options ?? []), ...(command.json ? [JSON_OPTION] : [])];
  if (options.length > 0) {
    for (const [short, long, doc] of options) {
      const keys = [short, long].filter((key) => key !== '').join(', ');
      const [first = '', ...rest] = wrap(doc, OPTION_DOC_WIDTH);
      lines.push(format('  %-30s %-43s', keys, first), ...rest.map((line) => ' '.repeat(33) + line));
    }
    lines.push('');
  }
  return `${lines.join('\n')}\n${moreOptions}`;
}

type HelpRow = Pick<Command, 'name' | 'doc'>;

function rows(list: readonly HelpRow[]): string {
  return list
    .flatMap(({ name, doc }) => {
      const [first = '', ...rest] = wrap(doc, DOC_WIDTH);
      return [format(' %-20s %-50s', name, first), ...rest.map((line) => ' '.repeat(22) + line)];
    })
    .map((line) => `${line}\n`)
    .join('');
}

export function shortHelp(): string {
  const byName = new Map<string, HelpRow>([...commands, HELP_ROW].map((command) => [command.name, command]));
  const list = COMMON_ORDER.flatMap((name) => byName.get(name) ?? []);
  return `${HEAD}Common 'xm' commands:\n\n${rows(list)}\n${FOOT}For a complete list of subcommands run 'xm help'.\n`;
}

export function longHelp(): string {
  return `${HEAD}xm full list of subcommands:\n\n${rows(commands.filter((command) => !command.hidden))}\n${FOOT}`;
}
