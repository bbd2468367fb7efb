/**
 * The embedded guest: a shell on the PV console. It echoes, tells the time, reads and lists xenstore, shows its event
 * channels, and obeys control/shutdown as a Linux guest does. A kernel of its own, in assembly, over `runtime.ts`.
 */
import { guestKernel, hypercall } from './runtime.ts';
import { timeSource } from './time.ts';
import { xenstoreSource } from './xenstore.ts';

export const consoleShellPrompt = 'shell> ';

const commands: readonly (readonly [name: string, routine: string, help: string])[] = [
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

const commandTable = [
  ...commands.map(([name], i) => `cmd_name_${i}: db "${name}", 0`),
  'align 8',
  'command_table:',
  ...commands.map(([, routine], i) => `dq cmd_name_${i}, ${routine}`),
  'dq 0, 0',
].join('\n');

const helpText = commands.map(([name, , help]) => `${name.padEnd(9)} ${help}\\n`).join('');

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

; Reads a line into 'line' with echo and backspace; does the control/shutdown work while it waits.
read_line:
    push rbx
    xor ebx, ebx
.next:
    call getc
    cmp rax, -1
    jne .have
    call poll_shutdown
    call wait_event
    jmp .next
.have:
    cmp al, 13
    je .end
    cmp al, 10
    je .end
    cmp al, 127
    je .erase
    cmp al, 8
    je .erase
    cmp al, 32
    jb .next
    cmp ebx, LINE_MAX
    jae .next
    lea rdx, [rel line]
    mov [rdx + rbx], al
    inc ebx
    mov edi, eax
    call putc
    call console_notify
    jmp .next
.erase:
    test ebx, ebx
    je .next
    dec ebx
    lea rdi, [rel erase]
    call puts
    jmp .next
.end:
    lea rdx, [rel line]
    mov byte [rdx + rbx], 0
    lea rdi, [rel newline]
    call puts
    pop rbx
    ret

; Sleeps unless console input or a xenstore reply is there already. Events are masked from the look to the sleep.
wait_event:
    mov byte [rel shared_info + VI_upcall_mask], 1
    mov rdx, [rel console_ring]
    mov eax, [rdx + CONS_in_cons]
    cmp eax, [rdx + CONS_in_prod]
    jne .awake
    mov rdx, [rel store_ring]
    mov eax, [rdx + XS_rsp_cons]
    cmp eax, [rdx + XS_rsp_prod]
    jne .awake
    call block
    ret
.awake:
    mov byte [rel shared_info + VI_upcall_mask], 0
    ret

; Finds the command of 'line' and calls it with rdi = the rest of the line.
run_line:
    push rbx
    push r12
    lea rdi, [rel line]
    call skip_spaces
    cmp byte [rdi], 0
    je .end
    mov r12, rdi
    lea rbx, [rel command_table]
.next:
    mov rsi, [rbx]
    test rsi, rsi
    je .unknown
    mov rdi, r12
    call match_word
    test rax, rax
    jne .found
    add rbx, 16
    jmp .next
.found:
    mov rdi, rax
    call skip_spaces
    call qword [rbx + 8]
    jmp .end
.unknown:
    lea rdi, [rel unknown]
    call puts
.end:
    pop r12
    pop rbx
    ret

; rdi = text; moves it past spaces
skip_spaces:
    cmp byte [rdi], 32
    jne .end
    inc rdi
    jmp skip_spaces
.end:
    ret

; rdi = text, rsi = word ended by 0; rax = what follows the word in the text, or 0
match_word:
    mov al, [rsi]
    test al, al
    je .whole
    cmp al, [rdi]
    jne .no
    inc rsi
    inc rdi
    jmp match_word
.whole:
    cmp byte [rdi], 32
    je .yes
    cmp byte [rdi], 0
    jne .no
.yes:
    mov rax, rdi
    ret
.no:
    xor eax, eax
    ret

do_help:
    lea rdi, [rel help_text]
    jmp puts

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

LINE_MAX equ 255
line: resb 256
banner: db "xenhost console shell: a PV guest in assembly. 'help' lists the commands.\\n", 0
prompt: db "${consoleShellPrompt}", 0
newline: db "\\n", 0
space: db " ", 0
erase: db 8, " ", 8, 0
unknown: db "no such command; help lists them\\n", 0
help_text: db "${helpText}", 0
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
${commandTable}
`;

let image: Uint8Array | undefined;

/** The kernel's ELF image, assembled at the first call. */
export function consoleShell(): Uint8Array {
  image ??= guestKernel('xenhost-shell', source);
  return image;
}
