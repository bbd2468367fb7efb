/** States of split drivers' ends (`xen/include/public/io/xenbus.h`). */
// prettier-ignore
export const XenbusState = {
  Unknown: 0, Initialising: 1, InitWait: 2, Initialised: 3, Connected: 4, Closing: 5, Closed: 6, Reconfiguring: 7, Reconfigured: 8,
} as const;
export type XenbusStateCode = (typeof XenbusState)[keyof typeof XenbusState];
