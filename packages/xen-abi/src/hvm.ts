/** `hvm_op` (`xen/include/public/hvm/hvm_op.h`): parameters of a domain. */
import { layout } from '@xenhost/base';

export const HvmOp = { set_param: 0, get_param: 1 } as const;
export const HvmParam = layout('xen_hvm_param', { domid: 'u16', index: 'u32', value: 'u64' });
