/** Options that several rows have. */
import type { OptionHelp } from '../command.ts';

export const PAUSED: OptionHelp = ['-p', '--paused', 'Leave the domain paused'];
export const CONSOLE: OptionHelp = ['-c', '--console_autoconnect', 'Attach to the console of the new domain'];
export const VIEWER: readonly OptionHelp[] = [
  ['', '--vncviewer', 'Open a VNC viewer on the new domain'],
  ['', '--vncviewer-autopass', 'Hand the VNC password to the viewer'],
];
export const LONG: OptionHelp = ['-l', '--long', 'Show everything, as SXP'];
export const ALL_TMEM: readonly OptionHelp[] = [['-a', '--all', 'All tmem pools']];
