export * from './console-session.ts';
export * from './report.ts';
export * from './test-host.ts';
export * from './bench-guest.ts';
export { FakeXenctrl, type FakeXenctrlOptions } from './fake-xenctrl.ts';
export * from './hypervisor-memory.ts';
export * from './jit-modes.ts';
export * from './run-named.ts';
export * from './until.ts';
