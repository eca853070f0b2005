/*
 * What a sandboxed kit can no longer do, tried out in children that enter the sandbox as `serve` does. Hardening: to
 * see a case fail, leave its step out, as `hoody-tunnel serve --no-sandbox` does (tests/integration/test_sandbox.py has
 * the whole service under it).
 */
#include "base/log.h"
#include "proc/sandbox.h"
#include "support/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- a child, and what it says ---- */

static char said[16384]; /* the child's log */

/* Runs `body` in a child; its result (0: all well), and its log in `said`. */
static int in_child(int (*body)(void)) {
    int fd[2], status = -1;
    CU_ASSERT_EQUAL_FATAL(pipe(fd), 0);
    fflush(stdout);
    pid_t pid = fork();
    CU_ASSERT_FATAL(pid >= 0);
    if (pid == 0) {
        close(fd[0]);
        dup2(fd[1], 2);
        ht_log_setup(2, HT_LOG_INFO, HT_LOG_TEXT);
        _exit(body());
    }
    close(fd[1]);
    size_t n = 0;
    ssize_t got;
    while (n < sizeof said - 1 && (got = read(fd[0], said + n, sizeof said - 1 - n)) > 0)
        n += (size_t)got;
    said[n] = '\0';
    close(fd[0]);
    CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    printf("# the child ended with %#x and said: %s\n", status, said);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int enter(bool append_files) {
    struct ht_errmsg err = {""};
    int rc = proc_sandbox_no_new_privs(&err);
    if (rc == 0)
        rc = proc_sandbox_filter_calls(&(struct proc_sandbox_calls){.append_files = append_files}, &err);
    if (rc <= 0)
        ht_error("test", "%s", err.text);
    return rc > 0 ? 0 : -1;
}

static uint64_t status_hex(const char *field) {
    char line[256];
    uint64_t value = UINT64_MAX;
    FILE *f = fopen("/proc/self/status", "r");
    size_t n = strlen(field);
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, field, n) == 0 && line[n] == ':')
            value = strtoull(line + n + 1, NULL, 16);
    if (f)
        fclose(f);
    return value;
}

/* True: the call failed with EPERM. */
#define REFUSED(call) (errno = 0, (call) == -1 && errno == EPERM)
/* Ends the child with the number of the line. */
#define MUST(cond)                                                                                                     \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            ht_error("test", "line %d, errno %d: %s", __LINE__, errno, #cond);                                         \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

/* ---- system calls ---- */

static int nothing_dangerous(void) {
    char *argv[] = {(char *)(uintptr_t) "/bin/true", NULL};
    MUST(enter(false) == 0);
    MUST(REFUSED(execve(argv[0], argv, argv + 1)));
    MUST(REFUSED((int)syscall(SYS_execveat, AT_FDCWD, argv[0], argv, argv + 1, 0)));
    MUST(REFUSED(socket(AF_PACKET, SOCK_RAW, 0)));
    MUST(REFUSED(socket(AF_NETLINK, SOCK_RAW, 0)));
    MUST(REFUSED((int)syscall(SYS_mount, "none", "/", "tmpfs", 0, NULL)));
    MUST(REFUSED((int)syscall(SYS_unshare, CLONE_NEWUSER)));
    MUST(REFUSED((int)syscall(SYS_bpf, 0, NULL, 0)));
    MUST(REFUSED((int)syscall(SYS_io_uring_setup, 1, NULL)));
    MUST(REFUSED((int)syscall(SYS_setuid, 0)));
    MUST(REFUSED((int)syscall(SYS_seccomp, 1, 0, NULL)));
    MUST(REFUSED((int)syscall(SYS_perf_event_open, NULL, 0, 0, 0, 0)));
    MUST(REFUSED((int)syscall(SYS_chmod, "/tmp", 0777)));
    MUST(REFUSED((int)syscall(SYS_unlinkat, AT_FDCWD, "/nonexistent", 0)));
    MUST(strcmp(argv[0], "/bin/true") == 0);
#ifndef HT_SANITIZED /* the sanitizers' own calls are allowed there */
    MUST(REFUSED(fork()));
    MUST(REFUSED((int)ptrace(PTRACE_TRACEME, 0, NULL, NULL)));
    MUST(REFUSED(kill(getppid(), 0)));
    MUST(REFUSED(open("/tmp/sandbox-test", O_RDWR | O_CREAT, 0600)));
    MUST(REFUSED(open("/dev/null", O_WRONLY)));
    errno = 0;
    MUST(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EPERM);
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(page != MAP_FAILED);
    MUST(REFUSED(mprotect(page, 4096, PROT_READ | PROT_EXEC)));
#endif
    return 0;
}

static void forbidden_calls_fail_and_are_logged(void) {
    CU_ASSERT_EQUAL(in_child(nothing_dangerous), 0);
    char line[64];
    snprintf(line, sizeof line, "refused system call %d (", SYS_execve);
    CU_ASSERT_PTR_NOT_NULL(strstr(said, line));
    CU_ASSERT_PTR_NOT_NULL(strstr(said, "--no-sandbox"));
}

static int refused_many_times(void) {
    char *argv[] = {(char *)(uintptr_t) "/bin/true", NULL};
    MUST(enter(false) == 0);
    for (int i = 0; i < 1000; i++)
        MUST(REFUSED(execve(argv[0], argv, argv + 1)));
    return 0;
}

static void a_refused_call_is_logged_once(void) {
    CU_ASSERT_EQUAL(in_child(refused_many_times), 0);
    const char *first = strstr(said, "refused system call");
    CU_ASSERT_PTR_NOT_NULL_FATAL(first);
    CU_ASSERT_PTR_NULL(strstr(first + 1, "refused system call"));
}

static int what_a_kit_does(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    char byte;
    MUST(enter(false) == 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    MUST(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 1) == 0);
    errno = 0;
    MUST(accept4(fd, NULL, NULL, SOCK_CLOEXEC) == -1 && errno == EAGAIN);
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    MUST(file >= 0 && read(file, &byte, 1) == 1);
    void *big = malloc(64u << 20);
    MUST(big);
    memset(big, 1, 64u << 20);
    free(big);
    MUST(status_hex("NoNewPrivs") == 1 && status_hex("Seccomp") == 2);
    return 0;
}

static void what_a_kit_needs_is_allowed(void) { CU_ASSERT_EQUAL(in_child(what_a_kit_does), 0); }

static char log_name[64];

static int opens_its_log_again(void) {
    MUST(enter(true) == 0);
    int fd = open(log_name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
    MUST(fd >= 0 && write(fd, "x\n", 2) == 2);
#ifndef HT_SANITIZED
    MUST(REFUSED(open(log_name, O_WRONLY | O_TRUNC)));
    MUST(REFUSED(open(log_name, O_RDWR | O_APPEND)));
#endif
    return 0;
}

static void a_log_file_can_be_reopened_and_nothing_overwritten(void) {
    snprintf(log_name, sizeof log_name, "%s", P_tmpdir "/sandbox-XXXXXX");
    int fd = mkstemp(log_name);
    CU_ASSERT_FATAL(fd >= 0);
    close(fd);
    CU_ASSERT_EQUAL(in_child(opens_its_log_again), 0);
    unlink(log_name);
}

/* An abort in a sandboxed process must still be one: a failed assertion is not to become a loop. */
static int aborts(void) {
    MUST(enter(false) == 0);
    signal(SIGABRT, SIG_DFL);
    abort();
}

static void abort_still_works(void) {
    int status = -1;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        _exit(aborts());
    CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
    CU_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

/* ---- users ---- */

static void names_and_numbers_are_understood(void) {
    struct proc_sandbox_user u;
    struct ht_errmsg err;
    const struct passwd *nobody = getpwnam("nobody");
    CU_ASSERT_PTR_NOT_NULL_FATAL(nobody);
    uid_t uid = nobody->pw_uid;
    gid_t gid = nobody->pw_gid;
    CU_ASSERT_EQUAL(proc_sandbox_find_user("nobody", &u, &err), 0);
    CU_ASSERT(u.uid == uid && u.gid == gid && strcmp(u.name, "nobody") == 0);
    CU_ASSERT_EQUAL(proc_sandbox_find_user("nobody:4711", &u, &err), 0);
    CU_ASSERT(u.uid == uid && u.gid == 4711);
    CU_ASSERT_EQUAL(proc_sandbox_find_user("47110:47111", &u, &err), 0);
    CU_ASSERT(u.uid == 47110 && u.gid == 47111 && !u.name[0]);
}

static void what_is_no_user_is_refused(void) {
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"", "NAME or NAME:GROUP"},
        {":daemon", "NAME or NAME:GROUP"},
        {"nobody:", "NAME or NAME:GROUP"},
        {"no-such-user", "no user \"no-such-user\""},
        {"nobody:no-such-group", "no group \"no-such-group\""},
        {"47110", "as 47110:47110"},
        {"-1:-1", "no user"},
        {"4294967295:1", "no user"},
        {"99999999999999999999:1", "no user"},
        {"root", "that is root"},
        {"0:0", "that is root"},
        {"nobody:0", "that is root"},
        {"a-name-that-is-far-longer-than-any-account-has-on-any-system-there-is", "NAME or NAME:GROUP"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        struct proc_sandbox_user u;
        struct ht_errmsg err = {""};
        CU_ASSERT_EQUAL(proc_sandbox_find_user(bad[i].text, &u, &err), HT_EINVAL);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, bad[i].why));
    }
}

static int becomes_nobody(void) {
    struct proc_sandbox_user u;
    struct ht_errmsg err = {""};
    gid_t none[] = {0, 1, 2};
    MUST(setgroups(3, none) == 0); /* what root has must not stay */
    MUST(proc_sandbox_find_user("nobody", &u, &err) == 0);
    MUST(proc_sandbox_become(&u, false, &err) == 0);
    MUST(getuid() == u.uid && geteuid() == u.uid && getgid() == u.gid && getegid() == u.gid);
    gid_t groups[8];
    int n = getgroups(8, groups);
    MUST(n == 0 || (n == 1 && groups[0] == u.gid));
    MUST(status_hex("CapPrm") == 0 && status_hex("CapEff") == 0 && status_hex("CapAmb") == 0);
    MUST(setuid(0) == -1 && seteuid(0) == -1 && setgid(0) == -1);
    MUST(open("/etc/shadow", O_RDONLY) == -1 || access("/etc/shadow", F_OK) != 0);
    MUST(proc_sandbox_become(&u, false, &err) == 0); /* already there */
    u.uid++;
    MUST(proc_sandbox_become(&u, false, &err) == HT_EACCESS && strstr(err.text, "only root can"));
    return 0;
}

static int keeps_low_ports(void) {
    struct proc_sandbox_user u;
    struct ht_errmsg err = {""};
    MUST(proc_sandbox_find_user("47110:47111", &u, &err) == 0);
    MUST(proc_sandbox_become(&u, true, &err) == 0);
    MUST(status_hex("CapPrm") == UINT64_C(1) << CAP_NET_BIND_SERVICE);
    MUST(status_hex("CapEff") == UINT64_C(1) << CAP_NET_BIND_SERVICE);
    MUST(setuid(0) == -1);
    return 0;
}

static void root_is_given_up_for_good(void) {
    if (geteuid() != 0) {
        printf("# not root: only the refusals were tried\n");
        return;
    }
    CU_ASSERT_EQUAL(in_child(becomes_nobody), 0);
    CU_ASSERT_EQUAL(in_child(keeps_low_ports), 0);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"forbidden calls fail and are logged", forbidden_calls_fail_and_are_logged},
        {"a refused call is logged once", a_refused_call_is_logged_once},
        {"the system calls that a kit needs are allowed", what_a_kit_needs_is_allowed},
        {"a log file can be reopened and nothing overwritten", a_log_file_can_be_reopened_and_nothing_overwritten},
        {"abort still works", abort_still_works},
        {"names and numbers are understood", names_and_numbers_are_understood},
        {"what is no user is refused", what_is_no_user_is_refused},
        {"root is given up for good", root_is_given_up_for_good},
        {NULL, NULL},
    };
    return tap_main("sandbox", tests);
}
