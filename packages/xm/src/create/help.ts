/** What the usage of xm create and xm new shows after their arguments. */
import { optionHelp } from '../options.ts';
import { optionRows } from './options.ts';

export const createHelp = (): string => optionHelp(optionRows);
