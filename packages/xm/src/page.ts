/** docs/XM.md from the table of commands. `tools/node24 packages/xm/src/page.main.ts` writes it; a test compares. */
import { JSON_OPTION, type Command } from './commands/command.ts';
import { aliases, commands } from './commands/table.ts';

const HEAD = `# xm

Made from the table of commands (\`packages/xm/src/commands/table.ts\`) by \`packages/xm/src/page.main.ts\`. Names,
arguments, options, columns, messages and exit codes are those of Xen 4.4's xm; the sentences are ours.

A command is found by its name, by an old name, or by the beginning (two letters or more) of exactly one name; those marked
*ours* by their whole name only. \`xm CMD --help\` shows one, \`xm help\` all.

Where xend is: the \`<server>\` of \`/etc/xen/xm-config.xml\` (or \`XM_CONFIG_FILE\`), else \`XM_SERVER\` (\`httpu:///path\`,
\`http://host:port\`, \`https://host:port\`, \`ssh://user@host\`), else this host's Unix socket.

| exit code | meaning |
|---|---|
| 0 | success |
| 1 | wrong use, most faults, no connection |
| 3 | no such domain |
| 255 | refused by the command itself (cpupool-create, dry-run, serve with the Xen-API) |
| other | that of the program that was run (console, vncviewer) |

| command | arguments | what it does | servers |
|---|---|---|---|
`;

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('<', '&lt;');

function servers(command: Command): string {
  if (command.own) return '*ours*';
  if (command.api === 'only') return 'Xen-API';
  return command.api === 'both' ? 'legacy, Xen-API' : 'legacy';
}

function optionLines(command: Command): string[] {
  const options = [...(command.options ?? []), ...(command.json ? [JSON_OPTION] : [])];
  if (options.length === 0) return [];
  const rows = options.map(([short, long, doc]) => {
    const keys = [short, long].filter((key) => key !== '').map((key) => `\`${key}\``);
    return `| ${cell(keys.join(', '))} | ${cell(doc)} |`;
  });
  return ['', `## xm ${command.name}`, '', '| option | what it does |', '|---|---|', ...rows];
}

export function xmPage(): string {
  const rows = commands.map(
    (command) => `| ${command.name} | ${cell(command.args.trim())} | ${cell(command.doc)} | ${servers(command)} |`,
  );
  const old = Object.entries(aliases).map(([name, current]) => `| ${name} | ${current} |`);
  const lines = [
    ...rows,
    '',
    '## Old names',
    '',
    '| name | now |',
    '|---|---|',
    ...old,
    '',
    '# Options',
    '',
    'For create, new, migrate, cpupool-create, cpupool-new and top see their `--help`.',
    ...commands.flatMap(optionLines),
  ];
  return `${HEAD}${lines.join('\n')}\n`;
}
