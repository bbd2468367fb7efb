export * from './api.ts';
export { buildPvDomain, describeKernel } from './dombuild/build-pv.ts';
export { DomBuildError } from './dombuild/errors.ts';
export type { XcErrorKind } from './dombuild/errors.ts';
export type * from './dombuild/types.ts';
export { unpackKernel } from './dombuild/unpack/index.ts';
export { uuidBytes, uuidText } from './uuid.ts';
export { openXenctrl } from './xenctrl.ts';
