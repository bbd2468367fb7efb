/**
 * Guests for measuring the scheduler: one that never stops, one that sleeps on its timer. They write what they find into
 * their xenstore page, which no xenstored uses here.
 */
import { guestKernel, hypercall, timeSource } from '@xenhost/guest-kernels';

/** Counts rounds of about a hundred instructions in the first word of the page. */
export const spinner = (): Uint8Array =>
  guestKernel(
    'spinner',
    `
main:
    mov rbx, [rel store_ring]
again:
    mov ecx, 50
inner:
    dec ecx
    jnz inner
    inc qword [rbx]
    jmp again
`,
  );

/** Wake-ups whose lateness is kept: a ring of 32-bit nanoseconds behind the count. */
export const NR_SAMPLES = 512;
export const SAMPLES_AT = 8;

const VCPUOP_STOP_PERIODIC_TIMER = 7;
const EVTCHNOP_BIND_VIRQ = 1;

/** Sleeps on its single-shot timer again and again, and measures how late it wakes up. */
export const sleeper = (periodNs: number): Uint8Array =>
  guestKernel(
    'sleeper',
    `
main:
    mov rbx, [rel store_ring]
    mov edi, ${VCPUOP_STOP_PERIODIC_TIMER}
    xor esi, esi
    xor edx, edx
    ${hypercall('vcpu_op')}
    mov edi, ${EVTCHNOP_BIND_VIRQ}
    lea rsi, [rel timer_binding]
    ${hypercall('event_channel_op')}
    test rax, rax
    jne fail
next:
    call system_time
    lea r12, [rax + ${periodNs}]
    mov rdi, r12
    ${hypercall('set_timer_op')}
sleep:
    mov byte [rel shared_info + VI_upcall_mask], 1
    call system_time
    cmp rax, r12
    jae awake
    call block
    jmp sleep
awake:
    mov byte [rel shared_info + VI_upcall_mask], 0
    sub rax, r12
    mov rdx, [rbx]
    and edx, ${NR_SAMPLES - 1}
    mov [rbx + rdx*4 + ${SAMPLES_AT}], eax
    inc qword [rbx]
    jmp next

${timeSource}
space: db " ", 0
align 8
; virq 0 (timer) on vCPU 0; the port comes back
timer_binding: dd 0, 0, 0
`,
  );
