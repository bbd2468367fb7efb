/** What a row of the table of commands is. */
import type { XendClient } from '../client.ts';
import type { World } from '../world.ts';
import type { XenApi } from '../xen-api/session.ts';

export interface CommandContext {
  readonly world: World;
  /** xend's legacy methods. */
  readonly server: XendClient;
  /** The Xen-API's methods, where xm-config.xml asks for them instead. */
  readonly api: XenApi | undefined;
  /** Whether a listing is wanted as JSON. */
  readonly json: boolean;
  /** xm itself, for the commands that are about commands. */
  readonly xm: Xm;
}

/** xm as its shell and its completion script see it. */
export interface Xm {
  readonly commands: readonly Command[];
  readonly aliases: Readonly<Record<string, string>>;
  /** By name, by old name, or by the beginning of exactly one. */
  find(name: string, world: World): Command | undefined;
  /** Runs a command over an open connection; whatever happens is told. */
  run(command: Command, args: readonly string[], world: World, session: Session): Promise<number>;
  usageOf(command: Command): Promise<string>;
  shortHelp(): string;
  longHelp(): string;
}

/** An open connection: what one command can hand to another. */
export type Session = Pick<CommandContext, 'server' | 'api'>;

/** Ours: on every command that lists. */
export const JSON_OPTION: OptionHelp = ['', '--json', 'Print JSON'];

/** Resolves to an exit code other than 0 where it has one. */
export type Run = (context: CommandContext, args: readonly string[]) => Promise<number | undefined>;

/** Short form, long form, what it does: as the usage shows them. */
export type OptionHelp = readonly [short: string, long: string, doc: string];

export interface Command {
  readonly name: string;
  /** Arguments as the usage shows them. */
  readonly args: string;
  readonly doc: string;
  readonly options?: readonly OptionHelp[];
  /** How many words it takes, options counted, where that is checked first. */
  readonly count?: readonly [min: number, max: number];
  /** Whether the long help leaves it out: Xen 4.4 knows the name and does not document it. */
  readonly hidden?: boolean;
  /** Whether it is ours, not Xen 4.4's: found by its whole name only, told apart in the long help. */
  readonly own?: boolean;
  /** With the Xen-API: `both` where xm has a way for either server, `only` where it has none for the legacy one. */
  readonly api?: 'both' | 'only';
  /** Whether the kind of server is looked at before the words are counted. */
  readonly serverFirst?: boolean;
  /** Whether it takes --json. */
  readonly json?: boolean;
  /** What its usage shows after the options, for a command with an option parser of its own. */
  readonly more?: () => Promise<string>;
  readonly load: () => Promise<Run>;
}
