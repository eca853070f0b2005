/* The system calls of a running kit, as a seccomp filter (seccomp(2)); everything else is refused. */
#include "proc/sandbox.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <ucontext.h>
#include <unistd.h>

int proc_sandbox_no_new_privs(struct ht_errmsg *err) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
        return HT_OK;
    return ht_fail(err, HT_EIO, "no_new_privs: %s", strerror(errno));
}

/* ---- refusing, with a line that says what ---- */

#if defined(__x86_64__) || defined(__aarch64__)
#define CAN_TELL 1

static void set_result(ucontext_t *u, long result) {
#ifdef __x86_64__
    u->uc_mcontext.gregs[REG_RAX] = result;
#else
    u->uc_mcontext.regs[0] = (unsigned long)result;
#endif
}

/* The signal is the system call's own doing, so what is below us on the stack is libc's wrapper around it. */
static void refused(int signo, siginfo_t *info, void *context) {
    static atomic_uint_least64_t told[16];
    unsigned call = (unsigned)info->si_syscall, word = call / 64 % HT_ARRAY_LEN(told);
    uint64_t bit = UINT64_C(1) << call % 64;
    (void)signo;
    if (!(atomic_fetch_or(&told[word], bit) & bit))
        ht_error(
            "kit",
            "the sandbox refused system call %u (scmp_sys_resolver %u names it); nothing that the kit needs should "
            "be refused: please report it, --no-sandbox switches the filter off",
            call, call);
    set_result(context, -EPERM);
}

static int catch_refusals(void) {
    struct sigaction sa = {.sa_sigaction = refused, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigemptyset(&sa.sa_mask);
    return sigaction(SIGSYS, &sa, NULL);
}
#else
#define CAN_TELL 0
static int catch_refusals(void) { return 0; }
#endif

#define REFUSE (CAN_TELL ? SCMP_ACT_TRAP : SCMP_ACT_ERRNO(EPERM))

/* ---- the rules ---- */

#ifndef HT_SANITIZED
#define UNNAMED REFUSE

/*
 * Found by tracing kits under the integration tests, and by what glibc may use instead on another kernel. Whoever makes
 * the kit call something new meets a line in the log that names it, and the integration tests fail on that line.
 */
static const int allowed[] = {
    /* data */
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),
    SCMP_SYS(recv),
    SCMP_SYS(send),
    /* sockets: made by the rules below */
    SCMP_SYS(bind),
    SCMP_SYS(listen),
    SCMP_SYS(accept4),
    SCMP_SYS(accept),
    SCMP_SYS(shutdown),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    /* the loop */
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(timerfd_create),
    SCMP_SYS(timerfd_settime),
    SCMP_SYS(eventfd2),
    SCMP_SYS(pipe2),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_gettime64),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    /* descriptors and what health tells of the process: opened by the rules below */
    SCMP_SYS(close),
    SCMP_SYS(fcntl),
    SCMP_SYS(fcntl64),
    SCMP_SYS(dup),
    SCMP_SYS(lseek),
    SCMP_SYS(_llseek),
    SCMP_SYS(fstat),
    SCMP_SYS(fstat64),
    SCMP_SYS(newfstatat),
    SCMP_SYS(fstatat64),
    SCMP_SYS(stat),
    SCMP_SYS(statx),
    SCMP_SYS(getdents64),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(fsync),
    SCMP_SYS(fdatasync),
    /* records of sessions: in a memory file for the kit that follows, in files that are open (proc/slots.h) */
    SCMP_SYS(memfd_create),
    SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),
    SCMP_SYS(ftruncate),
    SCMP_SYS(ftruncate64),
    SCMP_SYS(flock),
    /* memory: never executable, see below */
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    /* the process and its threads */
    SCMP_SYS(getrandom),
    SCMP_SYS(futex),
    SCMP_SYS(futex_time64),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigreturn),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(getrusage),
    SCMP_SYS(sysinfo),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_yield),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

/* AF_UNIX is the service manager's, and the log's if a libc wants one. */
static int allow_sockets(scmp_filter_ctx ctx) {
    static const int families[] = {AF_INET, AF_INET6, AF_UNIX};
    for (size_t i = 0; i < HT_ARRAY_LEN(families); i++)
        if (seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                             SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i], 0)) < 0)
            return -1;
    /* Connections for the program from before a restart, when this one speaks TLS in its place. */
    return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 1, SCMP_A0(SCMP_CMP_EQ, AF_UNIX, 0));
}

/* Reading only; appending too for a log file. Nothing is ever truncated or written over. */
static int allow_files(scmp_filter_ctx ctx, bool append) {
    const scmp_datum_t writes = O_ACCMODE | O_CREAT | O_TRUNC, appends = O_ACCMODE | O_TRUNC | O_APPEND;
    int rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, writes, O_RDONLY));
    if (rc == 0 && append)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
                              SCMP_A2(SCMP_CMP_MASKED_EQ, appends, O_WRONLY | O_APPEND));
    return rc;
}

/*
 * What looking up a name takes: threads, a socket to the name server or to nscd, and the kernel's list of interfaces
 * (AF_NETLINK), which glibc sorts addresses by.
 */
static const int connecting[] = {
    SCMP_SYS(connect), SCMP_SYS(socketpair), SCMP_SYS(sendmmsg),        SCMP_SYS(recvmmsg),
    SCMP_SYS(ioctl),   SCMP_SYS(uname),      SCMP_SYS(set_robust_list), SCMP_SYS(sigaltstack),
    SCMP_SYS(access),  SCMP_SYS(faccessat),  SCMP_SYS(get_robust_list), SCMP_SYS(sched_getparam),
};

static int allow_connecting(scmp_filter_ctx ctx) {
    /* Threads, and nothing that could be another process. */
    const scmp_datum_t thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
    int rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, thread, thread));
    for (size_t i = 0; rc == 0 && i < HT_ARRAY_LEN(connecting); i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, connecting[i], 0);
    return rc == 0 ? seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, AF_NETLINK, 0))
                   : rc;
}

static int allow_with_arguments(scmp_filter_ctx ctx, const struct proc_sandbox_calls *calls) {
    int rc = allow_sockets(ctx);
    if (rc == 0 && calls->connects)
        rc = allow_connecting(ctx);
    if (rc == 0)
        rc = allow_files(ctx, calls->append_files);
    /* New code cannot come into the process. */
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    /* Limits may be read, of nobody but ourselves. */
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2, SCMP_A0(SCMP_CMP_EQ, 0, 0),
                              SCMP_A2(SCMP_CMP_EQ, 0, 0));
    /* abort() */
    if (rc == 0)
        rc =
            seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));
    return rc;
}

static int add_rules(scmp_filter_ctx ctx, const struct proc_sandbox_calls *calls) {
    /* glibc asks for these and goes on without when the kernel does not know them. */
    static const int unknown[] = {SCMP_SYS(clone3), SCMP_SYS(faccessat2), SCMP_SYS(openat2)};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < HT_ARRAY_LEN(allowed); i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
    for (size_t i = 0; rc == 0 && i < HT_ARRAY_LEN(unknown); i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), unknown[i], 0);
    /* A thread has to have it where the first one has. */
    if (rc == 0)
        rc = seccomp_rule_add(ctx, calls->connects ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(rseq), 0);
    return rc == 0 ? allow_with_arguments(ctx, calls) : rc;
}

#define CALLS allowed
#else
/*
 * Under the sanitizers the list is one of refusals: their leak check stops the world with ptrace, from a process of its
 * own that blocks every signal, and opens and maps what it likes.
 */
static const int refusals[] = {
    SCMP_SYS(execve),    SCMP_SYS(execveat),    SCMP_SYS(mount),  SCMP_SYS(umount2),        SCMP_SYS(unshare),
    SCMP_SYS(setns),     SCMP_SYS(bpf),         SCMP_SYS(setuid), SCMP_SYS(setgid),         SCMP_SYS(setresuid),
    SCMP_SYS(setresgid), SCMP_SYS(seccomp),     SCMP_SYS(chmod),  SCMP_SYS(fchmod),         SCMP_SYS(fchmodat),
    SCMP_SYS(unlink),    SCMP_SYS(unlinkat),    SCMP_SYS(rename), SCMP_SYS(io_uring_setup), SCMP_SYS(perf_event_open),
    SCMP_SYS(keyctl),    SCMP_SYS(userfaultfd),
};

static int add_rules(scmp_filter_ctx ctx, const struct proc_sandbox_calls *calls) {
    int rc = seccomp_rule_add(ctx, REFUSE, SCMP_SYS(socket), 1,
                              SCMP_A0(SCMP_CMP_GT, calls->connects ? AF_NETLINK : AF_INET6, 0));
    if (rc == 0 && !calls->connects)
        rc = seccomp_rule_add(ctx, REFUSE, SCMP_SYS(connect), 0);
    for (size_t i = 0; rc == 0 && i < HT_ARRAY_LEN(refusals); i++)
        rc = seccomp_rule_add(ctx, REFUSE, refusals[i], 0);
    return rc;
}

#define CALLS refusals
#define UNNAMED SCMP_ACT_ALLOW
#endif

/* ---- all of it ---- */

int proc_sandbox_filter_calls(const struct proc_sandbox_calls *calls, struct ht_errmsg *err) {
    if (catch_refusals() != 0)
        return ht_fail(err, HT_EIO, "SIGSYS: %s", strerror(errno));
    scmp_filter_ctx ctx = seccomp_init(UNNAMED);
    if (!ctx)
        return ht_fail(err, HT_ENOMEM, "no memory for the filter");
    int rc = add_rules(ctx, calls);
    /* proc_sandbox_no_new_privs() is the caller's; every thread gets the filter, or none. */
    if (rc == 0)
        rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0);
    if (rc == 0)
        rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
    if (rc == 0)
        rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree: hot calls do not pay for the list */
    if (rc == 0)
        rc = seccomp_load(ctx);
    seccomp_release(ctx);
    if (rc != 0)
        return ht_fail(err, HT_EIO, "seccomp: %s", strerror(-rc));
    return (int)HT_ARRAY_LEN(CALLS);
}
