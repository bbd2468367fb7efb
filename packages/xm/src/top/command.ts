/** xm top: the loop of xentop, on a screen with keys or in batch mode. */
import type { CommandContext, Run } from '../commands/command.ts';
import { CommandFailed } from '../errors.ts';
import { print, type World } from '../world.ts';
import { Keyboard } from './keyboard.ts';
import { parseTopOptions, type TopOptions } from './options.ts';
import { takeSample, type HostSample } from './sample.ts';
import { ANSI, PLAIN, clipped, keyLine, summary, table, type ScreenState } from './screen.ts';
import { fields } from './fields.ts';

export const top: Run = async (context, args) => {
  const options = parseTopOptions(args);
  const { world } = context;
  if (options.version) {
    print(world, 'xentop 1.0');
    return undefined;
  }
  const state: ScreenState = { ...options, sort: 0, first: 0 };
  if (options.batch) return batch(context, options, state);
  const terminal = world.terminal();
  if (!terminal || world.stdin.isTTY !== true) {
    throw new CommandFailed('xm top wants a terminal: use -b where there is none');
  }
  return interactive(context, options, state);
};

async function batch(context: CommandContext, options: TopOptions, state: ScreenState): Promise<undefined> {
  const { world } = context;
  let before: HostSample | undefined;
  for (let left = options.iterations; left === undefined || left > 0; left = left === undefined ? left : left - 1) {
    if (before !== undefined && !(await rested(world, options.delayS))) return;
    const now = await takeSample(context, state.vcpus);
    for (const line of table({ now, before, fullNames: options.fullNames }, state, PLAIN)) print(world, line);
    before = now;
  }
}

/** False when Ctrl-C ended the rest: in batch mode that is how xentop is told to stop. */
async function rested(world: World, seconds: number): Promise<boolean> {
  try {
    await world.sleep(seconds * 1000);
    return true;
  } catch {
    return !world.signal.aborted;
  }
}

const ENTER_SCREEN = '\x1b[?1049h\x1b[?25l';
const LEAVE_SCREEN = '\x1b[?25h\x1b[?1049l';
const PROMPT = 'Delay(sec)';

async function interactive(context: CommandContext, options: TopOptions, start: ScreenState): Promise<undefined> {
  const { world } = context;
  const keyboard = new Keyboard(world.stdin, world.signal);
  let state = start;
  let delayS = options.delayS;
  let before: HostSample | undefined;
  let now: HostSample | undefined;
  let typed: string | undefined;
  let left = options.iterations;
  world.out(ENTER_SCREEN);
  try {
    while (left === undefined || left > 0) {
      if (!now || world.now().getTime() - now.timeMs >= delayS * 1000) {
        before = now;
        now = await takeSample(context, state.vcpus);
        if (left !== undefined) left -= 1;
      }
      draw(world, { now, before, fullNames: options.fullNames }, state, typed);
      const key = await keyboard.next(Math.max(0, now.timeMs + delayS * 1000 - world.now().getTime()));
      if (typed !== undefined) {
        const next = typing(typed, key);
        if (key === 'enter' && Number.parseInt(typed, 10) > 0) delayS = Number.parseInt(typed, 10);
        typed = next;
        continue;
      }
      if (key === 'q' || key === 'escape' || key === 'end') return;
      if (key === 'd') typed = '';
      // What was not asked for has to be asked for now.
      if (key === 'v' && !state.vcpus) now = undefined;
      state = afterKey(state, key);
    }
  } finally {
    keyboard.close();
    world.out(LEAVE_SCREEN);
  }
}

/** The text of the prompt after a key; undefined when it is over. */
function typing(typed: string, key: string | undefined): string | undefined {
  if (key === 'enter' || key === 'escape' || key === 'end') return undefined;
  if (key === 'backspace') return typed.slice(0, -1);
  return key?.length === 1 ? typed + key : typed;
}

export function afterKey(state: ScreenState, key: string | undefined): ScreenState {
  switch (key) {
    case 'n':
      return { ...state, networks: !state.networks };
    case 'b':
      return { ...state, vbds: !state.vbds };
    case 'r':
      return { ...state, repeatHeader: !state.repeatHeader };
    case 'v':
      return { ...state, vcpus: !state.vcpus };
    case 's':
      return { ...state, sort: (state.sort + 1) % fields.length };
    case 'down':
      return { ...state, first: state.first + 1 };
    case 'up':
      return { ...state, first: Math.max(0, state.first - 1) };
    default:
      return state;
  }
}

function draw(
  world: World,
  view: { readonly now: HostSample; readonly before: HostSample | undefined; readonly fullNames: boolean },
  state: ScreenState,
  typed: string | undefined,
): void {
  const { columns, rows } = world.terminal() ?? { columns: 80, rows: 24 };
  const lines = [...summary(view.now), ...table(view, state, ANSI)].slice(0, Math.max(0, rows - 1));
  const bottom = keyLine(state, typed === undefined ? undefined : `${PROMPT}: ${typed}`);
  const shown = lines.map((line) => `${clipped(line, columns)}\x1b[0m\x1b[K`);
  world.out(`\x1b[H${shown.join('\r\n')}\x1b[J\x1b[${rows};1H${clipped(bottom, columns)}\x1b[0m\x1b[K`);
}
