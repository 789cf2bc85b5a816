//! The first instructions of the process: they ask for a large page for its
//! code.
//!
//! When the program has been read from the disk, mapping it in pages of 4 KiB
//! takes up to a tenth of a call. `build.rs` has the linker put the code of a
//! call at the beginning of all code, and this at a multiple of 2 MiB in the
//! file. If the kernel keeps those 2 MiB of the file in one page, it maps them
//! at once, which is up to the file system (ext4 since Linux 6.16). It reads
//! them so if it is asked to (`MADV_HUGEPAGE`), which has to happen before
//! anything else of that part is read. So these instructions stand elsewhere,
//! between two components, of which a call reads something in any case.
//!
//! The kernel keeps what it has read, so that this matters to a program that
//! was not executed since the node was started, or was dropped from memory.
//! What was just written, as by `weir install`, stays as it was written. Only
//! that part is asked for, because all of a large page counts as memory of the
//! process.

std::arch::global_asm!(
    r#"
    .section .text.weir_start,"ax",@progbits
    .globl weir_start
    .hidden weir_start
    .type weir_start,@function
weir_start:
    # The C library expects this register as it is; the call spares it.
    mov r8, rdx
    lea rdi, [rip + weir_text]
    mov esi, {size}
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
    size = const 2 << 20,
    huge = const nix::libc::MADV_HUGEPAGE,
    madvise = const nix::libc::SYS_madvise,
);
