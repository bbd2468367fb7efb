/**
 * The embedded guest: a shell on the PV console. It echoes, tells the time, reads and lists xenstore, shows its event
 * channels, and obeys control/shutdown as a Linux guest does. A kernel of its own, in assembly, over `runtime.ts`.
 */
import { lineSource, type ShellCommand } from './line.ts';
import { guestKernel, hypercall } from './runtime.ts';
import { timeSource } from './time.ts';
import { xenstoreSource } from './xenstore.ts';

export const consoleShellPrompt = 'shell> ';

const commands: readonly ShellCommand[] = [
  ['help', 'do_help', 'this list'],
  ['echo', 'do_echo', 'TEXT: says it again'],
  ['time', 'do_time', 'system time and wall clock'],
  ['info', 'do_info', 'what the hypervisor gave at the start'],
  ['events', 'do_events', 'event channels and how often each fired'],
  ['xs-read', 'do_read', 'PATH: value of a xenstore node'],
  ['xs-list', 'do_list', 'PATH: children of a xenstore node'],
  ['xs-write', 'do_write', 'PATH VALUE: write a xenstore node'],
  ['reboot', 'do_reboot', 'shut down, reason reboot'],
  ['poweroff', 'do_poweroff', 'shut down'],
  ['crash', 'do_crash', 'execute an undefined instruction'],
];

const source = `
main:
    lea rdi, [rel banner]
    call puts
    call watch_shutdown
.prompt:
    lea rdi, [rel prompt]
    call puts
    call read_line
    call run_line
    jmp .prompt

${lineSource(commands)}

do_echo:
    call puts
    lea rdi, [rel newline]
    jmp puts

do_info:
    push rbx
    mov rbx, [rel start_info]
    lea rdi, [rel info_magic]
    call puts
    mov rdi, rbx
    call puts
    lea rdi, [rel info_pages]
    call puts
    mov rdi, [rbx + SI_nr_pages]
    call put_decimal
    lea rdi, [rel info_console]
    call puts
    mov edi, [rbx + SI_console_evtchn]
    call put_decimal
    lea rdi, [rel info_store]
    call puts
    mov edi, [rbx + SI_store_evtchn]
    call put_decimal
    lea rdi, [rel info_command_line]
    call puts
    lea rdi, [rbx + SI_cmd_line]
    call puts
    lea rdi, [rel newline]
    call puts
    pop rbx
    ret

; Asks EVTCHNOP_status for each port until -EINVAL; shows those in use.
do_events:
    push rbx
    lea rdi, [rel events_title]
    call puts
    mov ebx, 1
.next:
    mov word [rel status_argument], 0x7ff0
    mov [rel status_port], ebx
    mov edi, EVTCHNOP_status
    lea rsi, [rel status_argument]
    ${hypercall('event_channel_op')}
    test rax, rax
    jne .end
    mov eax, [rel status_status]
    test eax, eax
    je .skip
    cmp eax, 5
    ja .skip
    mov edi, ebx
    mov esi, 4
    call put_padded
    lea rdi, [rel space]
    call puts
    mov eax, [rel status_status]
    lea rdx, [rel status_names]
    mov rdi, [rdx + rax*8]
    call puts
    lea rdx, [rel event_counts]
    mov edi, [rdx + rbx*4]
    call put_decimal
    lea rdi, [rel newline]
    call puts
.skip:
    inc ebx
    cmp ebx, NR_COUNTED
    jb .next
.end:
    pop rbx
    ret

do_reboot:
    mov edi, SHUTDOWN_reboot
    jmp shutdown

do_poweroff:
    mov edi, SHUTDOWN_poweroff
    jmp shutdown

do_crash:
    ud2

${xenstoreSource}
${timeSource}

banner: db "xenhost console shell: a PV guest in assembly. 'help' lists the commands.\\n", 0
prompt: db "${consoleShellPrompt}", 0
space: db " ", 0
info_magic: db "magic ", 0
info_pages: db "\\npages ", 0
info_console: db "\\nconsole port ", 0
info_store: db "\\nxenstore port ", 0
info_command_line: db "\\ncommand line ", 0
events_title: db "port type count\\n", 0
status_closed: db "closed ", 0
status_unbound: db "unbound ", 0
status_interdomain: db "interdomain ", 0
status_pirq: db "pirq ", 0
status_virq: db "virq ", 0
status_ipi: db "ipi ", 0
align 8
status_names: dq status_closed, status_unbound, status_interdomain, status_pirq, status_virq, status_ipi
status_argument: dw 0x7ff0
dw 0
status_port: dd 0
status_status: dd 0
resb 20
`;

let image: Uint8Array | undefined;

/** The kernel's ELF image, assembled at the first call. */
export function consoleShell(): Uint8Array {
  image ??= guestKernel('xenhost-shell', source);
  return image;
}
