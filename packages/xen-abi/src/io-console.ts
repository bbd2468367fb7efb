/** The ring page of a PV console (`xen/include/public/io/console.h`). */
import { array, layout } from '@xenhost/base';

/** Bytes of the ring towards the guest and of the one from it. */
export const XENCONS_IN_SIZE = 1024;
export const XENCONS_OUT_SIZE = 2048;

/** `struct xencons_interface`; indices run freely over 32 bits. */
export const XenconsInterface = layout('xencons_interface', {
  in: array('u8', XENCONS_IN_SIZE),
  out: array('u8', XENCONS_OUT_SIZE),
  in_cons: 'u32',
  in_prod: 'u32',
  out_cons: 'u32',
  out_prod: 'u32',
});
