/**
 * Assembly of a small xenstore client over the shared ring (`xen/include/public/io/xs_wire.h`): one request at a time;
 * watch events that come in between raise a flag. Also the guest's half of control/shutdown.
 */
import { hypercall } from './runtime.ts';

export const xenstoreSource = `
XS_DIRECTORY equ 1
XS_READ equ 2
XS_WATCH equ 4
XS_WRITE equ 11
XS_WATCH_EVENT equ 15
XS_ERROR equ 16
XS_rsp equ 1024
XS_req_cons equ 2048
XS_req_prod equ 2052
XS_rsp_cons equ 2056
XS_rsp_prod equ 2060
XS_PAYLOAD_MAX equ 4096

; rdi = bytes, rsi = count: into the request ring, waiting while it is full
store_send:
    push rbx
    push r12
    push r13
    mov r12, rdi
    mov r13, rsi
    mov rbx, [rel store_ring]
.next:
    test r13, r13
    je .end
    mov eax, [rbx + XS_req_prod]
    mov ecx, eax
    sub ecx, [rbx + XS_req_cons]
    cmp ecx, 1024
    jb .room
    call store_notify
    mov edi, SCHEDOP_yield
    xor esi, esi
    ${hypercall('sched_op')}
    jmp .next
.room:
    mov ecx, eax
    and ecx, 1023
    mov dl, [r12]
    mov [rbx + rcx], dl
    inc eax
    mov [rbx + XS_req_prod], eax
    inc r12
    dec r13
    jmp .next
.end:
    call store_notify
    pop r13
    pop r12
    pop rbx
    ret

store_notify:
    mov rax, [rel start_info]
    mov eax, [rax + SI_store_evtchn]
    mov [rel send_argument], eax
    mov edi, EVTCHNOP_send
    lea rsi, [rel send_argument]
    ${hypercall('event_channel_op')}
    ret

; rdi = where, rsi = count: from the reply ring, sleeping while it is empty
store_receive:
    push rbx
    push r12
    push r13
    mov r12, rdi
    mov r13, rsi
    mov rbx, [rel store_ring]
.next:
    test r13, r13
    je .end
    mov eax, [rbx + XS_rsp_cons]
    cmp eax, [rbx + XS_rsp_prod]
    jne .have
    call store_notify
    mov byte [rel shared_info + VI_upcall_mask], 1
    mov eax, [rbx + XS_rsp_cons]
    cmp eax, [rbx + XS_rsp_prod]
    jne .race
    call block
    jmp .next
.race:
    mov byte [rel shared_info + VI_upcall_mask], 0
    jmp .next
.have:
    mov ecx, eax
    and ecx, 1023
    mov dl, [rbx + rcx + XS_rsp]
    mov [r12], dl
    inc eax
    mov [rbx + XS_rsp_cons], eax
    inc r12
    dec r13
    jmp .next
.end:
    call store_notify
    pop r13
    pop r12
    pop rbx
    ret

; Receives one message into store_header and store_payload (ended by 0); eax = its type
store_message:
    lea rdi, [rel store_header]
    mov esi, 16
    call store_receive
    mov eax, [rel store_length]
    cmp eax, XS_PAYLOAD_MAX
    ja fail
    lea rdi, [rel store_payload]
    mov esi, eax
    call store_receive
    mov eax, [rel store_length]
    lea rdx, [rel store_payload]
    mov byte [rdx + rax], 0
    mov eax, [rel store_type]
    cmp eax, XS_WATCH_EVENT
    jne .end
    mov byte [rel watch_fired], 1
.end:
    ret

; edi = type, rsi = payload, rdx = its length; eax = type of the reply, which is in store_payload
store_request:
    push rbx
    push r12
    mov rbx, rsi
    mov r12, rdx
    mov [rel request_type], edi
    mov [rel request_length], edx
    lea rdi, [rel request_type]
    mov esi, 16
    call store_send
    mov rdi, rbx
    mov rsi, r12
    call store_send
.reply:
    call store_message
    cmp eax, XS_WATCH_EVENT
    je .reply
    pop r12
    pop rbx
    ret

; rdi = text; rax = its length with the 0
length_with_zero:
    xor eax, eax
.next:
    inc rax
    cmp byte [rdi + rax - 1], 0
    jne .next
    ret

; rdi = path; eax = type of the reply
store_path_request:
    push rbx
    push r12
    mov ebx, esi
    mov r12, rdi
    call length_with_zero
    mov rdx, rax
    mov rsi, r12
    mov edi, ebx
    call store_request
    pop r12
    pop rbx
    ret

; Prints the reply: the value, or "error: NAME"
show_reply:
    cmp eax, XS_ERROR
    jne .value
    lea rdi, [rel error_text]
    call puts
.value:
    lea rdi, [rel store_payload]
    call puts
    lea rdi, [rel newline]
    jmp puts

do_read:
    mov esi, XS_READ
    call store_path_request
    jmp show_reply

; Children come with a 0 behind each: shown a line each
do_list:
    push rbx
    push r12
    mov esi, XS_DIRECTORY
    call store_path_request
    cmp eax, XS_ERROR
    je .error
    lea rbx, [rel store_payload]
    mov r12d, [rel store_length]
    add r12, rbx
.next:
    cmp rbx, r12
    jae .end
    mov rdi, rbx
    call puts
    lea rdi, [rel newline]
    call puts
    mov rdi, rbx
    call length_with_zero
    add rbx, rax
    jmp .next
.error:
    call show_reply
.end:
    pop r12
    pop rbx
    ret

; "PATH VALUE": the space becomes the 0 between path and value
do_write:
    push rbx
    mov rbx, rdi
.space:
    cmp byte [rdi], 0
    je .usage
    cmp byte [rdi], 32
    je .found
    inc rdi
    jmp .space
.found:
    mov byte [rdi], 0
    lea rdi, [rdi + 1]
    mov rsi, rdi
    call length_with_zero
    lea rdx, [rsi + rax - 1]
    sub rdx, rbx
    mov rsi, rbx
    mov edi, XS_WRITE
    call store_request
    call show_reply
    pop rbx
    ret
.usage:
    lea rdi, [rel write_usage]
    call puts
    pop rbx
    ret

; Says to xenstore that this guest wants to know of control/shutdown
watch_shutdown:
    lea rsi, [rel watch_payload]
    mov edx, WATCH_LENGTH
    mov edi, XS_WATCH
    call store_request
    ret

; Takes in what came; when a watch fired, reads control/shutdown and obeys
poll_shutdown:
    push rbx
.take:
    mov rdx, [rel store_ring]
    mov eax, [rdx + XS_rsp_cons]
    cmp eax, [rdx + XS_rsp_prod]
    je .look
    call store_message
    jmp .take
.look:
    cmp byte [rel watch_fired], 0
    je .end
    mov byte [rel watch_fired], 0
    lea rdi, [rel shutdown_path]
    mov esi, XS_READ
    call store_path_request
    cmp eax, XS_ERROR
    je .end
    lea rdi, [rel store_payload]
    lea rsi, [rel word_poweroff]
    call match_word
    mov ebx, SHUTDOWN_poweroff
    test rax, rax
    jne .obey
    lea rdi, [rel store_payload]
    lea rsi, [rel word_halt]
    call match_word
    test rax, rax
    jne .obey
    lea rdi, [rel store_payload]
    lea rsi, [rel word_reboot]
    call match_word
    mov ebx, SHUTDOWN_reboot
    test rax, rax
    jne .obey
.end:
    pop rbx
    ret
.obey:
    ; an empty value tells the toolstack that the request was seen
    lea rsi, [rel shutdown_path]
    mov edx, SHUTDOWN_PATH_LENGTH
    mov edi, XS_WRITE
    call store_request
    lea rdi, [rel going_down]
    call puts
    mov edi, ebx
    jmp shutdown

align 4
store_header:
store_type: dd 0, 0, 0
store_length: dd 0
request_type: dd 0, 0, 0
request_length: dd 0
store_payload: resb XS_PAYLOAD_MAX + 8
watch_fired: db 0
error_text: db "error: ", 0
write_usage: db "xs-write PATH VALUE\\n", 0
going_down: db "\\ngoing down as asked\\n", 0
word_poweroff: db "poweroff", 0
word_halt: db "halt", 0
word_reboot: db "reboot", 0
shutdown_path: db "control/shutdown", 0
SHUTDOWN_PATH_LENGTH equ $ - shutdown_path
watch_payload: db "control/shutdown", 0, "shutdown", 0
WATCH_LENGTH equ $ - watch_payload
`;
