export * from './value.ts';
export * from './limits.ts';
export { encodeCall, encodeFault, encodeResponse } from './encode.ts';
export { decodeCall, decodeResponse } from './decode.ts';
export { UNSENDABLE } from './text.ts';
