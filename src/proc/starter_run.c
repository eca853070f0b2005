/* The starter itself: one thread, which waits for letters and signals, and reads nothing else. */
#include "proc/files.h"
#include "proc/starter_priv.h"
#include "proc/title.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define KITS 64 /* of a parent: the present one, and old ones that finish */
#define PATH_ROOM 4096

/* Where a program that was started finds its sockets. */
#define FD_CHANNEL 3
#define FD_REPORT 4 /* closed by execve() */
#define FD_PARENT 5

struct kit {
    int fd;
    pid_t pid;
};

struct starter {
    const struct starter_config *cfg;
    sigset_t none;
    struct kit kits[KITS];
    unsigned n_kits;
    pid_t present; /* the kit that serves, or is to serve */
    int status;    /* with which it has ended; -1: it has not */
    int ends_by;   /* of a parent: the signal to end the service that it has passed on; 0: none */
    pid_t started; /* the program that was started last; 0: none, or it has ended */
    pid_t by;      /* the kit that asked for it */
    pid_t killed;  /* the last one that was killed for the one that asked for it: what it has said comes too late */
    bool left;     /* of a child: the pid file is another kit's */
};

/* ---- signals ---- */

static volatile sig_atomic_t came[NSIG];

static void on_signal(int signo) { came[signo] = 1; }

static const int passed_on[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT};

static void set_signals(const struct starter *st) {
    struct sigaction sa = {.sa_handler = on_signal};
    sigfillset(&sa.sa_mask);
    sigaction(SIGCHLD, &sa, NULL);
    if (!st->cfg->parent)
        sa.sa_handler = SIG_IGN; /* they are for the kit; with it the starter ends */
    for (size_t i = 0; i < HT_ARRAY_LEN(passed_on); i++)
        sigaction(passed_on[i], &sa, NULL);
}

static void pass_on(struct starter *st) {
    for (size_t i = 0; i < HT_ARRAY_LEN(passed_on); i++) {
        int signo = passed_on[i];
        if (!came[signo])
            continue;
        came[signo] = 0;
        if (signo == SIGTERM || signo == SIGINT)
            st->ends_by = signo;
        kill(st->present, signo);
    }
}

/* ---- kits ---- */

static struct kit *kit_of(struct starter *st, pid_t pid) {
    for (unsigned i = 0; i < st->n_kits; i++)
        if (st->kits[i].pid == pid)
            return &st->kits[i];
    return NULL;
}

static void say(struct starter *st, pid_t to, char letter, pid_t pid, const char *text, int fd) {
    struct kit *k = kit_of(st, to);
    if (k && k->fd >= 0)
        (void)starter_send(k->fd, letter, (uint32_t)pid, text, fd);
}

/* ---- the pid file ---- */

static bool put_file(const char *path, const char *text, char why[STARTER_TEXT]) {
    char part[PATH_ROOM];
    size_t n = strlen(text);
    int fd = -1, e = ENAMETOOLONG;
    if ((size_t)snprintf(part, sizeof part, "%s.new", path) < sizeof part) {
        unlink(part);
        fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
        e = errno;
    }
    bool good = fd >= 0 && write(fd, text, n) == (ssize_t)n;
    e = fd >= 0 ? errno : e;
    if (fd >= 0)
        close(fd);
    if (good && rename(part, path) == 0)
        return true;
    snprintf(why, STARTER_TEXT, "--pid-file %.150s: %s", path, strerror(good ? errno : e));
    if (fd >= 0)
        unlink(part);
    return false;
}

/* The pid file's other file, for a restart that came to nothing. */
static const char *failed_file(const struct starter *st, char out[PATH_ROOM]) {
    return (size_t)snprintf(out, PATH_ROOM, "%s.failed", st->cfg->pid_file) < PATH_ROOM ? out : NULL;
}

static pid_t service(const struct starter *st) { return st->cfg->parent ? getpid() : st->cfg->kit; }

static bool names_us(void *ctx, int fd) {
    char text[24] = "";
    return read(fd, text, sizeof text - 1) > 0 && strtol(text, NULL, 10) == (long)service(ctx);
}

static void write_pid(struct starter *st, pid_t kit) {
    char text[24], why[STARTER_TEXT];
    snprintf(text, sizeof text, "%d\n", (int)service(st));
    if (!put_file(st->cfg->pid_file, text, why))
        say(st, kit, SAY_WARNING, 0, why, -1);
}

/* A kit that was killed says nothing more: the one before may have written its own number again. */
static bool is_dead(const struct starter *st) { return !st->cfg->parent && getppid() != st->cfg->kit; }

static void serving(struct starter *st, pid_t kit) {
    char other[PATH_ROOM];
    if (st->ends_by && kit != st->present) /* which the one before has had while it handed over */
        kill(kit, st->ends_by);
    st->present = kit;
    if (!st->cfg->pid_file || is_dead(st))
        return;
    write_pid(st, kit);
    if (failed_file(st, other))
        unlink(other);
}

static void failed(struct starter *st, pid_t kit, const char *text) {
    char line[STARTER_TEXT + 1], other[PATH_ROOM], why[STARTER_TEXT];
    if (!st->cfg->pid_file || !failed_file(st, other))
        return;
    snprintf(line, sizeof line, "%.*s\n", (int)STARTER_TEXT - 1, text);
    if (!put_file(other, line, why))
        say(st, kit, SAY_WARNING, 0, why, -1);
    if (!proc_files_look(st->cfg->pid_file, names_us, st)) /* the other one served for a moment */
        write_pid(st, kit);
}

static void remove_pid_file(struct starter *st) {
    if (st->cfg->pid_file && !st->left)
        (void)!proc_files_remove(st->cfg->pid_file, names_us, st);
}

/* ---- starting a program ---- */

struct ends {
    int channel[2], parent[2], report[2]; /* [0] stays here, or goes to the kit; [1] is the program's */
};

static void close_all(int fds[2]) {
    for (int i = 0; i < 2; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
        fds[i] = -1;
    }
}

static bool open_ends(struct ends *e, bool parent) {
    const int type = SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK;
    *e = (struct ends){{-1, -1}, {-1, -1}, {-1, -1}};
    return socketpair(AF_UNIX, type, 0, e->channel) == 0 && (!parent || socketpair(AF_UNIX, type, 0, e->parent) == 0) &&
           pipe2(e->report, O_CLOEXEC) == 0;
}

static void put_env(char **env, size_t *n, char *room, size_t size, const char *name, int value) {
    snprintf(room, size, "%s=%d", name, value);
    env[(*n)++] = room;
}

/* In the new process: everything as it was when this program was started. Returns only if it cannot be. */
static void become(const struct starter *st, const struct ends *e) {
    const struct starter_program *p = &st->cfg->program;
    static char channel[40], parent[40], watchdog[40];
    size_t n = 0, at = 0;
    bool own = st->cfg->parent;
    for (int signo = 1; signo < NSIG; signo++)
        if (signo != SIGKILL && signo != SIGSTOP)
            signal(signo, SIG_DFL);
    /* First out of the way of the numbers that they get. */
    int c = fcntl(e->channel[1], F_DUPFD_CLOEXEC, 16), r = fcntl(e->report[1], F_DUPFD_CLOEXEC, 16);
    int o = own ? fcntl(e->parent[1], F_DUPFD_CLOEXEC, 16) : 16;
    if (c < 0 || r < 0 || o < 0 || dup2(c, FD_CHANNEL) < 0 || dup3(r, FD_REPORT, O_CLOEXEC) < 0 ||
        (own && dup2(o, FD_PARENT) < 0))
        return;
    (void)close_range(own ? FD_PARENT + 1 : FD_REPORT + 1, ~0u, 0);
    while (p->env[n])
        n++;
    char **env = calloc(n + 4, sizeof *env);
    if (!env)
        return;
    for (size_t i = 0; i < n; i++)
        if (strncmp(p->env[i], "WATCHDOG_PID=", 13) != 0)
            env[at++] = p->env[i];
    if (at < n) /* there was one */
        put_env(env, &at, watchdog, sizeof watchdog, "WATCHDOG_PID", (int)getpid());
    put_env(env, &at, channel, sizeof channel, ENV_CHANNEL, FD_CHANNEL);
    if (own)
        put_env(env, &at, parent, sizeof parent, ENV_PARENT, FD_PARENT);
    sigprocmask(SIG_SETMASK, &st->none, NULL);
    execve(p->path, p->argv, env);
}

/* The number of the new process, or -1 with errno: it did not become the program. */
static pid_t spawn(const struct starter *st, struct ends *e) {
    int why = 0;
    pid_t pid = fork();
    if (pid == 0) {
        become(st, e);
        why = errno;
        (void)!write(FD_REPORT, &why, sizeof why);
        _exit(127);
    }
    close(e->report[1]);
    e->report[1] = -1;
    if (pid < 0)
        return -1;
    ssize_t n;
    do
        n = read(e->report[0], &why, sizeof why);
    while (n < 0 && errno == EINTR);
    if (n <= 0) /* closed by execve() */
        return pid;
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    errno = why;
    return -1;
}

static void start(struct starter *st, pid_t by) {
    struct ends e;
    char why[STARTER_TEXT];
    const char *path = st->cfg->program.path;
    if (st->started && st->by == by) {
        say(st, by, SAY_NOT_STARTED, 0, "one is being started already", -1);
        return;
    }
    if (st->cfg->parent && st->n_kits == KITS) {
        say(st, by, SAY_NOT_STARTED, 0, "too many old kits have not finished yet", -1);
        return;
    }
    pid_t pid = open_ends(&e, st->cfg->parent) ? spawn(st, &e) : -1;
    if (pid < 0) {
        snprintf(why, sizeof why, "%.150s cannot be started: %s", path, strerror(errno));
        say(st, by, SAY_NOT_STARTED, 0, why, -1);
    } else {
        st->started = pid;
        st->by = by;
        if (st->cfg->parent) {
            st->kits[st->n_kits++] = (struct kit){.fd = e.parent[0], .pid = pid};
            e.parent[0] = -1;
        }
        say(st, by, SAY_STARTED, pid, "", e.channel[0]);
    }
    close_all(e.channel);
    close_all(e.parent);
    close_all(e.report);
}

/* ---- what kits ask for, and their ends ---- */

static void asked(struct starter *st, struct kit *k, char letter, uint32_t number, const char *text) {
    if (k->pid == st->killed)
        return;
    switch (letter) {
    case ASK_START:
        start(st, k->pid);
        break;
    case ASK_KILL:
        if (st->started && st->by == k->pid) {
            kill(st->started, SIGKILL);
            st->killed = st->started;
            st->present = k->pid; /* the other one may have said that it serves */
        }
        break;
    case ASK_SERVING:
        serving(st, k->pid);
        break;
    case ASK_LEFT:
        st->left = !st->cfg->parent;
        break;
    case ASK_FAILED:
        failed(st, k->pid, text);
        break;
    case ASK_SYNC:
        if (number < PROC_SLOTS)
            (void)proc_slots_sync(&st->cfg->slots, number);
        break;
    default:
        break;
    }
}

/* Everything that the kit has said. False: its end of the socket is closed. */
static bool listen_to(struct starter *st, struct kit *k) {
    char m[STARTER_MESSAGE + 1];
    const size_t head = 1 + sizeof(uint32_t);
    for (;;) {
        ssize_t n = recv(k->fd, m, STARTER_MESSAGE, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
        uint32_t number;
        if ((size_t)n < head)
            continue;
        memcpy(&number, m + 1, sizeof number);
        m[n] = '\0';
        asked(st, k, m[0], number, m + head);
    }
}

static void forget(struct starter *st, pid_t pid) {
    struct kit *k = kit_of(st, pid);
    if (!k)
        return;
    if (k->fd >= 0)
        close(k->fd);
    *k = st->kits[--st->n_kits];
}

static void reap(struct starter *st) {
    int status;
    pid_t pid;
    char text[STARTER_TEXT];
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (WIFSIGNALED(status))
            snprintf(text, sizeof text, "was killed by signal %d", WTERMSIG(status));
        else
            snprintf(text, sizeof text, "ended with status %d", WEXITSTATUS(status));
        if (pid == st->started) {
            say(st, st->by, SAY_ENDED, pid, text, -1);
            st->started = 0;
        }
        if (st->cfg->parent && pid == st->present)
            st->status = status;
        if (st->cfg->parent)
            forget(st, pid);
    }
}

/* ---- the end ---- */

/* As the kit has ended, so that whoever started the service learns it. */
static _Noreturn void end_like(int status) {
    if (WIFSIGNALED(status)) {
        sigset_t one;
        int signo = WTERMSIG(status);
        signal(signo, SIG_DFL);
        sigemptyset(&one);
        sigaddset(&one, signo);
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* one core is enough */
        raise(signo);
        sigprocmask(SIG_UNBLOCK, &one, NULL);
        _exit(128 + signo); /* process 1 of a container does not die of it */
    }
    _exit(WEXITSTATUS(status));
}

/* Old kits may finish behind one that ended in order, which has told them. */
static void end_if_over(struct starter *st) {
    if (st->status < 0)
        return;
    bool in_order = WIFEXITED(st->status) && WEXITSTATUS(st->status) == 0;
    if (in_order && st->n_kits > 0)
        return;
    for (unsigned i = 0; i < st->n_kits; i++)
        kill(st->kits[i].pid, SIGTERM);
    remove_pid_file(st);
    end_like(st->status);
}

/* Nothing of the kit's may stay open here: a socket that it closes must be closed. */
static void close_others(const struct starter_config *cfg) {
    int keep[1 + PROC_SLOTS] = {cfg->fd}, n = 1;
    for (unsigned i = 0; i < PROC_SLOTS; i++)
        if (cfg->slots.fd[i] >= 0)
            keep[n++] = cfg->slots.fd[i];
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && keep[j - 1] > keep[j]; j--) {
            int t = keep[j];
            keep[j] = keep[j - 1];
            keep[j - 1] = t;
        }
    unsigned from = 3;
    for (int i = 0; i < n; i++) {
        if ((unsigned)keep[i] > from)
            (void)close_range(from, (unsigned)keep[i] - 1, 0);
        from = (unsigned)keep[i] + 1;
    }
    (void)close_range(from, ~0u, 0);
}

static void turn(struct starter *st) {
    struct pollfd p[KITS];
    pid_t pids[KITS];
    unsigned n = st->n_kits;
    for (unsigned i = 0; i < n; i++) {
        p[i] = (struct pollfd){.fd = st->kits[i].fd, .events = POLLIN};
        pids[i] = st->kits[i].pid;
    }
    int ready = ppoll(p, n, NULL, &st->none);
    if (came[SIGCHLD]) {
        came[SIGCHLD] = 0;
        reap(st);
    }
    if (st->cfg->parent)
        pass_on(st);
    for (unsigned i = 0; ready > 0 && i < n; i++) {
        struct kit *k = p[i].revents ? kit_of(st, pids[i]) : NULL;
        if (!k || listen_to(st, k))
            continue;
        if (!st->cfg->parent) {
            remove_pid_file(st);
            _exit(0);
        }
        close(k->fd); /* a parent learns its end by waiting for it */
        k->fd = -1;
    }
    end_if_over(st);
}

void starter_run(const struct starter_config *cfg) {
    static struct starter st;
    st = (struct starter){.cfg = cfg, .n_kits = 1, .present = cfg->kit, .status = -1};
    st.kits[0] = (struct kit){.fd = cfg->fd, .pid = cfg->kit};
    sigemptyset(&st.none);
    close_others(cfg);
    set_signals(&st);
    if (!cfg->parent) {
        char title[80];
        snprintf(title, sizeof title, "hoody-tunnel: starts the kit %d anew when it asks", (int)cfg->kit);
        prctl(PR_SET_NAME, "tunnel-starter", 0, 0, 0);
        proc_title_set(title);
    }
    for (;;)
        turn(&st);
}
