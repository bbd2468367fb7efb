/** All classes of the Xen-API. */
import type { ApiClass } from '../table.ts';
import { debug } from './debug.ts';
import { event } from './event.ts';
import { session } from './session.ts';
import { task } from './task.ts';

export const apiClasses: readonly ApiClass[] = [session, task, event, debug];
