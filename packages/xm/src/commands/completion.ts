/** xm bash-completion: the completion script for bash, made from the table of commands. */
import { JSON_OPTION, type Command, type Run, type Xm } from './command.ts';

export const bashCompletion: Run = ({ world, xm }) => {
  world.out(completionScript(xm));
  return Promise.resolve(undefined);
};

/** Whether a word of its is a domain, as its arguments say. */
export const takesDomain = (command: Command): boolean =>
  /[<[]Dom(?:ain|Id)|[<]domain>|<managed domain>/.test(command.args);
const takesFile = (command: Command): boolean => /<(?:ConfigFile|CheckpointFile|policyfile)>/.test(command.args);
const takesPool = (command: Command): boolean => /<CPU Pool>/.test(command.args);

export function longOptions(command: Command): string[] {
  const inArguments = [...command.args.matchAll(/--[a-z_-]+/g)].map(([word]) => word);
  const own = (command.options ?? []).map(([, long]) => long.replace(/[[=].*$/, ''));
  return [...new Set([...own, ...inArguments, ...(command.json ? [JSON_OPTION[1]] : []), '--help'])];
}

/** Options of the commands with a parser of their own, of which the table has no rows. */
const CREATE_OPTIONS = [
  '--help', '--help_config', '--quiet', '--path', '--defconfig', '--config', '--dryrun', '--xmldryrun', '--skipdtd', '--paused',
  '--console_autoconnect', '--vncviewer', '--vncviewer-autopass',
]; // prettier-ignore

export function completionScript({ commands, aliases }: Pick<Xm, 'commands' | 'aliases'>): string {
  const names = (chosen: readonly Command[]): string => chosen.map((command) => command.name).join('|');
  const old = (chosen: readonly Command[]): string =>
    Object.keys(aliases)
      .filter((alias) => chosen.some((command) => command.name === aliases[alias]))
      .map((alias) => `|${alias}`)
      .join('');
  const domainTakers = commands.filter(takesDomain);
  const fileTakers = commands.filter(takesFile);
  const poolTakers = commands.filter((command) => takesPool(command) && !takesDomain(command));
  const options = commands.map((command) => {
    const words = ['create', 'new'].includes(command.name) ? CREATE_OPTIONS : longOptions(command);
    return `    ${command.name}) words='${words.join(' ')}' ;;`;
  });
  return `# bash completion for xm. Printed by 'xm bash-completion': eval "$(xm bash-completion)"
_xm_options() {
  local words=
  case $1 in
${options.join('\n')}
  esac
  printf '%s' "$words"
}
_xm() {
  local cur=\${COMP_WORDS[COMP_CWORD]} cmd=\${COMP_WORDS[1]}
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W '${commands.map((command) => command.name).join(' ')} help' -- "$cur"))
    return
  fi
  case $cur in
  -*) COMPREPLY=($(compgen -W "$(_xm_options "$cmd")" -- "$cur")); return ;;
  esac
  case $cmd in
  ${names(domainTakers)}${old(domainTakers)})
    COMPREPLY=($(compgen -W "$("\${COMP_WORDS[0]}" list 2>/dev/null | tail -n +2 | cut -d' ' -f1)" -- "$cur")) ;;
  ${names(poolTakers)}${old(poolTakers)})
    COMPREPLY=($(compgen -W "$("\${COMP_WORDS[0]}" cpupool-list 2>/dev/null | tail -n +2 | cut -d' ' -f1)" -- "$cur")) ;;
  esac
  case $cmd in
  ${names(fileTakers)}|dump-core|save)
    COMPREPLY+=($(compgen -f -- "$cur") $(cd /etc/xen 2>/dev/null && compgen -f -- "$cur")) ;;
  esac
}
complete -F _xm xm
`;
}
