/** What a row of the table of commands is. */
import type { XendClient } from '../client.ts';
import type { World } from '../world.ts';

export interface CommandContext {
  readonly world: World;
  readonly server: XendClient;
}

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
  /** How many words it takes, options counted, where that is checked first; -1 for any number. */
  readonly count?: readonly [min: number, max: number];
  /** Whether the long help leaves it out: Xen 4.4 knows the name and does not document it. */
  readonly hidden?: boolean;
  /** Loads the code; a known command without it is not supported in this version. */
  readonly load?: () => Promise<Run>;
}
