//! The first instructions of the process: they ask for large pages for its code.
//!
//! To map code in pages of 4 KiB took an eighth of a call. `build.rs` has the
//! linker put what a call executes at the beginning of the code, and the code
//! at a multiple of 2 MiB in the file. Where the kernel has read such a part of
//! the file into one large page, it maps all of it at once, which is up to the
//! file system (ext4 since Linux 6.16, XFS). It reads large pages if it is
//! asked to (`MADV_HUGEPAGE`), which has to happen before anything else of that
//! part is read: what is here is in a section of its own, away from the rest.
//!
//! The kernel keeps what it has read, so that all this matters to a file that
//! was not executed since the node was started, or was dropped from memory.
//! What `weir install` writes is in large pages at first.

std::arch::global_asm!(
    r#"
    .section .start,"ax",@progbits
    .globl weir_start
    .hidden weir_start
    .type weir_start,@function
weir_start:
    # The C library expects this register as it is; the call spares it.
    mov r8, rdx
    lea rdi, [rip + weir_text]
    lea rsi, [rip + etext]
    sub rsi, rdi
    mov edx, {huge}
    mov eax, {madvise}
    # Whether it succeeds makes no difference but to the time.
    syscall
    mov rdx, r8
    jmp _start
    .size weir_start, . - weir_start

    # The first symbol of the code, by the order that build.rs writes.
    .section .text.weir_text,"ax",@progbits
    .globl weir_text
    .hidden weir_text
weir_text:
    ud2
"#,
    huge = const nix::libc::MADV_HUGEPAGE,
    madvise = const nix::libc::SYS_madvise,
);
