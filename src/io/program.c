#include "io/program.h"

#include "base/mem.h"
#include "io/io_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KILLED_MS 2000 /* for a process to go that was killed; longer only when the kernel is stuck */

struct io_program {
    struct io_loop *loop;
    const struct io_program_ops *ops;
    void *ctx;
    pid_t pid;
    int out, end; /* its output, and a descriptor that is readable when it has ended */
    ev_io out_io, end_io;
    size_t n;
    char line[IO_PROGRAM_LINE];
};

/* ---- its output ---- */

static void tell(struct io_program *p, size_t n) {
    if (p->ops->said)
        p->ops->said(p->ctx, ht_slice_of(p->line, n));
}

static void tell_lines(struct io_program *p) {
    char *newline;
    while ((newline = memchr(p->line, '\n', p->n)) || p->n == sizeof p->line) {
        size_t n = newline ? (size_t)(newline - p->line) : p->n;
        tell(p, n);
        n += newline ? 1 : 0;
        memmove(p->line, p->line + n, p->n - n);
        p->n -= n;
    }
}

static void read_output(struct io_program *p) {
    while (p->out >= 0) {
        ssize_t n = read(p->out, p->line + p->n, sizeof p->line - p->n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            io_unwatch(p->loop, &p->out_io);
            close(p->out);
            p->out = -1;
        } else {
            p->n += (size_t)n;
            tell_lines(p);
        }
    }
}

static void on_output(struct ev_loop *ev, ev_io *w, int revents) {
    (void)ev, (void)revents;
    read_output(w->data);
}

/* ---- its end ---- */

static void free_it(struct io_program *p) {
    if (p->out >= 0) {
        io_unwatch(p->loop, &p->out_io);
        close(p->out);
    }
    if (p->end >= 0) {
        io_unwatch(p->loop, &p->end_io);
        close(p->end);
    }
    ht_free(p);
}

/* Its status stays to be taken. When this program ignores SIGCHLD there is none, and it has ended as well. */
static bool has_ended(pid_t pid) {
    siginfo_t info = {.si_pid = 0};
    int rc = waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT);
    return rc == 0 ? info.si_pid != 0 : errno != EINTR;
}

static void on_end(struct ev_loop *ev, ev_io *w, int revents) {
    struct io_program *p = w->data;
    int status = 0;
    char text[64];
    (void)ev, (void)revents;
    if (!has_ended(p->pid))
        return;
    kill(-p->pid, SIGKILL); /* what it has left of its group; the number is its own until it is waited for */
    pid_t got = waitpid(p->pid, &status, 0);
    read_output(p); /* processes that it has started may go on, and hold the pipe open: they are not waited for */
    if (p->n > 0)
        tell(p, p->n);
    bool exited = got > 0 && WIFEXITED(status);
    if (exited)
        snprintf(text, sizeof text, "it ended with status %d", WEXITSTATUS(status));
    else if (got > 0 && WIFSIGNALED(status))
        snprintf(text, sizeof text, "it was ended by signal %d", WTERMSIG(status));
    else
        snprintf(text, sizeof text, "it ended");
    const struct io_program_ops *ops = p->ops;
    void *ctx = p->ctx;
    free_it(p);
    ops->ended(ctx, exited ? WEXITSTATUS(status) : -1, text);
}

static void wait_for_end(pid_t pid, unsigned ms) {
    for (unsigned i = 0; i < ms && !has_ended(pid); i++)
        poll(NULL, 0, 1);
}

void io_program_stop(struct io_program **pp, unsigned patience_ms) {
    struct io_program *p = *pp;
    *pp = NULL;
    if (!p)
        return;
    kill(p->pid, SIGTERM);
    wait_for_end(p->pid, patience_ms);
    kill(-p->pid, SIGKILL);
    wait_for_end(p->pid, KILLED_MS);
    (void)waitpid(p->pid, NULL, WNOHANG);
    free_it(p);
}

void io_program_signal(struct io_program *p, int signo) { kill(p->pid, signo); }

pid_t io_program_pid(const struct io_program *p) { return p->pid; }

/* ---- its beginning ---- */

/* Between fork() and execv(): only what is safe in a signal handler. `env` NULL: this process's own. */
static _Noreturn void become(const char *const argv[], const char *const env[], int out, pid_t parent) {
    union { /* execv() does not change them (POSIX.1, exec: rationale) */
        const char *const *in;
        char *const *out;
    } args = {.in = argv}, vars = {.in = env};
    struct sigaction usual = {.sa_handler = SIG_DFL};
    sigset_t none;
    setpgid(0, 0);
    for (int s = 1; s < NSIG; s++)
        sigaction(s, &usual, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int in = open("/dev/null", O_RDONLY);
    bool ok = in >= 0 && dup2(in, 0) == 0 && dup2(out, 1) == 1 && dup2(out, 2) == 2;
    ok = ok && prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 && getppid() == parent;
    if (env)
        umask(077);
    if (ok && env)
        execve(argv[0], args.out, vars.out);
    else if (ok)
        execv(argv[0], args.out);
    static const char why[] = "the program cannot be run\n";
    ssize_t n = write(2, why, sizeof why - 1);
    (void)n;
    _exit(127);
}

struct io_program *io_program_start(struct io_loop *loop, const char *const argv[], const struct io_program_ops *ops,
                                    void *ctx, struct ht_errmsg *err) {
    return io_program_start_env(loop, argv, NULL, ops, ctx, err);
}

struct io_program *io_program_start_env(struct io_loop *loop, const char *const argv[], const char *const env[],
                                        const struct io_program_ops *ops, void *ctx, struct ht_errmsg *err) {
    int fds[2] = {-1, -1};
    struct io_program *p = ht_calloc(1, sizeof *p);
    pid_t parent = getpid();
    if (!p || access(argv[0], X_OK) < 0 || pipe2(fds, O_CLOEXEC) < 0 || fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0 ||
        (p->pid = fork()) < 0) {
        ht_fail(err, p ? HT_EIO : HT_ENOMEM, "%s cannot be started: %s", argv[0],
                p ? strerror(errno) : ht_err_text(HT_ENOMEM));
        if (fds[0] >= 0) {
            close(fds[0]);
            close(fds[1]);
        }
        ht_free(p);
        return NULL;
    }
    if (p->pid == 0)
        become(argv, env, fds[1], parent);
    setpgid(p->pid, p->pid); /* whichever of the two comes first */
    close(fds[1]);
    *p = (struct io_program){.loop = loop, .ops = ops, .ctx = ctx, .pid = p->pid, .out = fds[0], .end = -1};
    ev_io_init(&p->out_io, on_output, p->out, EV_READ);
    p->out_io.data = p;
    io_watch(loop, &p->out_io);
    p->end = (int)syscall(SYS_pidfd_open, p->pid, 0); /* close-on-exec by itself (pidfd_open(2)) */
    if (p->end < 0) {
        ht_fail(err, HT_EIO, "%s cannot be watched: %s", argv[0], strerror(errno));
        io_program_stop(&p, 0);
        return NULL;
    }
    ev_io_init(&p->end_io, on_end, p->end, EV_READ);
    p->end_io.data = p;
    io_watch(loop, &p->end_io);
    return p;
}
