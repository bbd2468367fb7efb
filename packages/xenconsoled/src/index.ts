export { startXenconsoled } from './daemon.ts';
export type { Xenconsoled, XenconsoledModules, XenconsoledOptions } from './daemon.ts';
export { runSession, ESCAPE_BYTE } from './session.ts';
export type { SessionEnd, SessionInput, SessionStreams } from './session.ts';
export { ConsoleError, findTty } from './tty-path.ts';
