/** All helpers by name. */
import type { Helper } from '../helper.ts';
import { arithmeticHelpers } from './arithmetic.ts';
import { avxHelpers } from './avx.ts';
import { descriptorHelpers } from './descriptors.ts';
import { portHelpers } from './ports.ts';
import { segmentHelpers } from './segments.ts';
import { stringHelpers } from './string-operations.ts';
import { systemHelpers } from './system.ts';
import { transferHelpers } from './transfers.ts';
import { xsaveHelpers } from './xsave.ts';
import { x87Helpers } from './x87.ts';

export const HELPERS: Readonly<Record<string, Helper>> = {
  ...arithmeticHelpers,
  ...stringHelpers,
  ...segmentHelpers,
  ...descriptorHelpers,
  ...transferHelpers,
  ...systemHelpers,
  ...portHelpers,
  ...x87Helpers,
  ...avxHelpers,
  ...xsaveHelpers,
};
