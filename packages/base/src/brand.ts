/** Nominal number types of the field, so that one kind of frame or id cannot be passed for another. */

declare const brand: unique symbol;
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** Domain id, 0..0x7fff. */
export type Domid = Brand<number, 'Domid'>;
/** Machine frame number: an index of a 4 KiB frame of machine memory. */
export type Mfn = Brand<number, 'Mfn'>;
/** Guest frame number: what a tool names a guest's frame by (PV: an mfn; HVM: guest-physical). */
export type Gfn = Brand<number, 'Gfn'>;
/** Pseudo-physical frame number of a PV guest: an index of its p2m list. */
export type Pfn = Brand<number, 'Pfn'>;
/** Event channel port of one domain; 0 is never valid. */
export type EvtchnPort = Brand<number, 'EvtchnPort'>;
/** Grant reference: an index of one domain's grant table. */
export type GrantRef = Brand<number, 'GrantRef'>;

export const domid = (n: number): Domid => n as Domid;
export const mfn = (n: number): Mfn => n as Mfn;
export const gfn = (n: number): Gfn => n as Gfn;
export const pfn = (n: number): Pfn => n as Pfn;
export const evtchnPort = (n: number): EvtchnPort => n as EvtchnPort;
export const grantRef = (n: number): GrantRef => n as GrantRef;
