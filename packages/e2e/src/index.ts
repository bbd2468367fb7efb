import type { Report } from '@xenhost/testkit';
import { badInput } from './bad-input.ts';
import { devices } from './devices.ts';
import { journeys } from './journeys.ts';
import { lifeCycle } from './life-cycle.ts';
import { startCommand } from './start-command.ts';
import { supervision } from './supervision.ts';

/** The runs over whole hosts by name, in the order in which they are made. */
export const suites: Readonly<Record<string, (report: Report) => Promise<void>>> = {
  start: startCommand,
  journeys,
  devices,
  'life-cycle': lifeCycle,
  'bad-input': badInput,
  supervision,
};
