/*
 * The system calls that a plugin may not make: those that reach another process, change mounts or
 * namespaces, load code into the kernel, or leave the process group that the host kills by.
 *
 * Written as BPF by hand, since kill() needs "own id or 0" of one argument, which libseccomp's rules (one
 * comparison an argument) cannot say. A denied call fails with EPERM, as it would for want of a right.
 * An int argument is compared by its low word: the kernel ignores the rest.
 * Threads: called before there are others; they and every child inherit it.
 */
#include "runner_int.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCH AUDIT_ARCH_AARCH64
#else
#error "the runner's sandbox does not know this processor"
#endif

#define DENY(code) (SECCOMP_RET_ERRNO | ((code)&SECCOMP_RET_DATA))
#define ARG_LOW(n) ((uint32_t)(offsetof(struct seccomp_data, args) + (n) * sizeof(uint64_t)))

enum { MAX_STEPS = 512 };
struct program {
    struct sock_filter step[MAX_STEPS];
    unsigned short n;
};

static void emit(struct program *p, uint16_t code, uint32_t k, uint8_t yes, uint8_t no)
{
    BUG_ON(p->n >= MAX_STEPS);
    p->step[p->n++] = (struct sock_filter){.code = code, .jt = yes, .jf = no, .k = k};
}

static void emit_load(struct program *p, uint32_t at)
{
    emit(p, BPF_LD | BPF_W | BPF_ABS, at, 0, 0);
}

static void emit_return(struct program *p, uint32_t what)
{
    emit(p, BPF_RET | BPF_K, what, 0, 0);
}

/* The next `steps` steps run only for system call `nr`; they end in a return. */
static void only_for(struct program *p, uint32_t nr, uint8_t steps)
{
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, nr, 0, steps);
}

static void deny(struct program *p, uint32_t nr, int code)
{
    only_for(p, nr, 1);
    emit_return(p, DENY((uint32_t)code));
}

/* Allowed only when argument `arg` is one of two numbers. */
static void allow_two(struct program *p, uint32_t nr, unsigned arg, uint32_t a, uint32_t b)
{
    only_for(p, nr, 5);
    emit_load(p, ARG_LOW(arg));
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, a, 2, 0);
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, b, 1, 0);
    emit_return(p, DENY(EPERM));
    emit_return(p, SECCOMP_RET_ALLOW);
}

/* Denied when argument `arg` is one of two numbers. */
static void deny_two(struct program *p, uint32_t nr, unsigned arg, uint32_t a, uint32_t b)
{
    only_for(p, nr, 5);
    emit_load(p, ARG_LOW(arg));
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, a, 1, 0);
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, b, 0, 1);
    emit_return(p, DENY(EPERM));
    emit_return(p, SECCOMP_RET_ALLOW);
}

/* Denied when argument `arg` has any of these bits. */
static void deny_bits(struct program *p, uint32_t nr, unsigned arg, uint32_t bits)
{
    only_for(p, nr, 4);
    emit_load(p, ARG_LOW(arg));
    emit(p, BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1);
    emit_return(p, DENY(EPERM));
    emit_return(p, SECCOMP_RET_ALLOW);
}

static const uint16_t denied[] = {
    /* other processes */
    __NR_process_vm_readv,
    __NR_process_vm_writev,
    __NR_kcmp,
    __NR_pidfd_send_signal,
    __NR_pidfd_getfd,
    __NR_process_madvise,
    __NR_migrate_pages,
    __NR_move_pages,
#ifdef __NR_process_mrelease
    __NR_process_mrelease,
#endif
#ifndef CONNECTD_SANITIZER /* LeakSanitizer stops its own threads with it; other processes are out of reach
                              by their being undumpable */
    __NR_ptrace,
#endif
    /* away from the process group that the host kills */
    __NR_setsid,
    __NR_setpgid,
    /* mounts and namespaces; handles reach files under a mount point that hides them */
    __NR_mount,
    __NR_umount2,
    __NR_move_mount,
    __NR_open_tree,
    __NR_fsopen,
    __NR_fsconfig,
    __NR_fsmount,
    __NR_fspick,
    __NR_mount_setattr,
    __NR_pivot_root,
    __NR_chroot,
    __NR_unshare,
    __NR_setns,
    __NR_open_by_handle_at,
    /* the machine */
    __NR_kexec_load,
    __NR_kexec_file_load,
    __NR_bpf,
    __NR_perf_event_open,
    __NR_keyctl,
    __NR_add_key,
    __NR_request_key,
    __NR_init_module,
    __NR_finit_module,
    __NR_delete_module,
    __NR_reboot,
    __NR_swapon,
    __NR_swapoff,
    __NR_acct,
    __NR_userfaultfd,
#ifdef __NR_iopl
    __NR_iopl,
    __NR_ioperm,
#endif
};

static void emit_all(struct program *p, uint32_t pid)
{
    emit_load(p, offsetof(struct seccomp_data, arch));
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCH, 1, 0);
    emit_return(p, DENY(EPERM));
    emit_load(p, offsetof(struct seccomp_data, nr));
#ifdef __x86_64__
    emit(p, BPF_JMP | BPF_JGE | BPF_K, 0x40000000u, 0, 1); /* the x32 numbers of the same calls */
    emit_return(p, DENY(ENOSYS));
#endif
    for (size_t i = 0; i < sizeof(denied) / sizeof(denied[0]); i++) {
        deny(p, denied[i], EPERM);
    }
    deny(p, __NR_clone3, ENOSYS); /* its flags are in memory: the C library falls back to clone() */
    deny_bits(p, __NR_clone, 0,
              CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
                  CLONE_NEWPID | CLONE_NEWNET);
    /* signals and limits: the process itself, or 0 (itself, its own group) */
    allow_two(p, __NR_kill, 0, pid, 0);
    allow_two(p, __NR_tgkill, 0, pid, pid);
    allow_two(p, __NR_tkill, 0, pid, pid);
    allow_two(p, __NR_rt_sigqueueinfo, 0, pid, pid);
    allow_two(p, __NR_rt_tgsigqueueinfo, 0, pid, pid);
    allow_two(p, __NR_prlimit64, 0, pid, 0);
    deny_two(p, __NR_fcntl, 1, F_SETOWN, F_SETOWN_EX);
#ifdef CONNECTD_SANITIZER /* LeakSanitizer makes the process dumpable while it looks */
    deny_two(p, __NR_prctl, 0, PR_SET_PDEATHSIG, PR_SET_PDEATHSIG);
#else
    deny_two(p, __NR_prctl, 0, PR_SET_DUMPABLE, PR_SET_PDEATHSIG);
#endif
    emit_return(p, SECCOMP_RET_ALLOW);
}

int runner_seccomp_load(struct err *err)
{
    struct program p = {.n = 0};
    emit_all(&p, (uint32_t)getpid());
    struct sock_fprog filter = {.len = p.n, .filter = p.step};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) != 0) {
        return err_set_errno(err, ERR_IO, "seccomp");
    }
    return 0;
}
