import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { completionScript } from './commands/completion.ts';
import { aliases, commands } from './commands/table.ts';
import { xmPage } from './page.ts';

it('docs/XM.md is what the table of commands says', () => {
  expect(readFileSync(join(__dirname, '../../../docs/XM.md'), 'utf8')).toBe(xmPage());
});

describe('the completion script', () => {
  const complete = (line: string): string[] => {
    const words = line.split(' ');
    // What `xm list` would print, so that domains can be offered.
    const script = `xm() { case $1 in list) printf 'Name ID\\nDomain-0 0\\nguest 1\\n';; esac; }
${completionScript({ commands, aliases })}
COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}; _xm; printf '%s\\n' "\${COMPREPLY[@]}"`;
    return execFileSync('bash', ['-c', script], { encoding: 'utf8' }).trim().split('\n');
  };

  it.each([
    ['xm dom', ['domid', 'domname', 'domstate']],
    ['xm destroy g', ['guest']],
    ['xm balloon Dom', ['Domain-0']],
    ['xm list --l', ['--long', '--label']],
    ['xm create --pa', ['--path', '--paused']],
    ['xm help x', ['']],
  ])('%s', (line, offered) => {
    expect(complete(line)).toEqual(offered);
  });
});
