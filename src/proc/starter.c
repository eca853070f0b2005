#include "proc/starter.h"

#include "base/buf.h"
#include "base/mem.h"
#include "proc/starter_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

/* ---- messages ---- */

int starter_send(int socket, char letter, uint32_t number, const char *text, int fd) {
    char m[STARTER_MESSAGE];
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    size_t n = ht_min(strlen(text), STARTER_TEXT - 1);
    m[0] = letter;
    memcpy(m + 1, &number, sizeof number);
    memcpy(m + 1 + sizeof number, text, n);
    struct iovec v = {m, 1 + sizeof number + n};
    struct msghdr h = {.msg_iov = &v, .msg_iovlen = 1};
    if (fd >= 0) {
        h.msg_control = control.room;
        h.msg_controllen = sizeof control.room;
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    ssize_t sent;
    do
        sent = sendmsg(socket, &h, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? HT_EIO : HT_OK;
}

static int ask(const struct proc_starter *s, char letter, uint32_t number, const char *text) {
    return s->fd < 0 ? HT_EIO : starter_send(s->fd, letter, number, text, -1);
}

int proc_starter_start(const struct proc_starter *s) { return ask(s, ASK_START, 0, ""); }
int proc_starter_kill(const struct proc_starter *s) { return ask(s, ASK_KILL, 0, ""); }
int proc_starter_serving(const struct proc_starter *s) { return ask(s, ASK_SERVING, 0, ""); }
int proc_starter_left(const struct proc_starter *s) { return ask(s, ASK_LEFT, 0, ""); }
int proc_starter_failed(const struct proc_starter *s, const char *why) { return ask(s, ASK_FAILED, 0, why); }
int proc_starter_sync(const struct proc_starter *s, unsigned i) { return ask(s, ASK_SYNC, i, ""); }

/* Takes the descriptor out of a message; -1: it has none. */
static int fd_of(struct msghdr *h) {
    int fd = -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof fd))
            memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

static bool is_known(char letter, enum proc_starter_said *said) {
    static const struct {
        char letter;
        enum proc_starter_said said;
    } all[] = {{SAY_STARTED, PROC_STARTED},
               {SAY_NOT_STARTED, PROC_NOT_STARTED},
               {SAY_ENDED, PROC_ENDED},
               {SAY_WARNING, PROC_WARNING}};
    for (size_t i = 0; i < HT_ARRAY_LEN(all); i++)
        if (all[i].letter == letter)
            return *said = all[i].said, true;
    return false;
}

int proc_starter_next(const struct proc_starter *s, struct proc_starter_event *e) {
    char m[STARTER_MESSAGE];
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    for (;;) {
        struct iovec v = {m, sizeof m};
        struct msghdr h = {
            .msg_iov = &v, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
        uint32_t number;
        ssize_t n = s->fd < 0 ? 0 : recvmsg(s->fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? HT_EAGAIN : HT_ECLOSED;
        *e = (struct proc_starter_event){.fd = fd_of(&h)};
        size_t head = 1 + sizeof number, text = (size_t)n > head ? (size_t)n - head : 0;
        if ((size_t)n >= head && is_known(m[0], &e->said) && (e->said != PROC_STARTED || e->fd >= 0)) {
            memcpy(&number, m + 1, sizeof number);
            e->pid = (pid_t)number;
            memcpy(e->text, m + head, ht_min(text, sizeof e->text - 1));
            return HT_OK;
        }
        if (e->fd >= 0)
            close(e->fd);
    }
}

void proc_starter_close(struct proc_starter *s) {
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

/* ---- what is started ---- */

static int read_all(const char *path, struct ht_buf *out) {
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc = fd < 0 ? HT_EIO : HT_OK;
    ssize_t n = 1;
    while (rc == HT_OK && n > 0) {
        uint8_t *to = ht_buf_reserve(out, 4096);
        n = to ? read(fd, to, 4096) : 0;
        rc = !to ? HT_ENOMEM : n < 0 ? HT_EIO : HT_OK;
        if (n > 0)
            ht_buf_commit(out, (size_t)n);
    }
    if (fd >= 0)
        close(fd);
    return rc;
}

static bool is_this_program(const char *path) {
    struct stat a, b;
    return stat(path, &a) == 0 && stat("/proc/self/exe", &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static char *join(const char *folder, size_t n, const char *name) {
    size_t m = strlen(name);
    char *path = ht_malloc(n + m + 2);
    if (!path)
        return NULL;
    memcpy(path, folder, n);
    path[n] = '/';
    memcpy(path + n + 1, name, m + 1);
    return path;
}

/*
 * Where the next version will be: the path that this one was called by, with its symbolic links as they are, so that
 * one which is led to another version leads there. Only where that is not this program, it is what the kernel says.
 */
static char *find_program(const char *name) {
    char cwd[4096], exe[4096];
    char *path = NULL;
    const char *folders = getenv("PATH");
    if (*name == '/')
        path = ht_strndup(name, strlen(name));
    else if (strchr(name, '/') && getcwd(cwd, sizeof cwd))
        path = join(cwd, strlen(cwd), name);
    for (; !path && !strchr(name, '/') && folders; folders = *folders ? folders + 1 : NULL) {
        size_t n = strcspn(folders, ":");
        path = n && *folders == '/' ? join(folders, n, name) : NULL;
        if (path && !is_this_program(path)) {
            ht_free(path);
            path = NULL;
        }
        folders += n;
    }
    if (path && is_this_program(path))
        return path;
    ht_free(path);
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe);
    return n > 0 && (size_t)n < sizeof exe ? ht_strndup(exe, (size_t)n) : NULL;
}

/* What the manager tells one process alone, and what starters do. */
static bool is_of_one(const char *text) {
    static const char *const names[] = {"LISTEN_PID=", "LISTEN_FDS=", "LISTEN_FDNAMES=", ENV_CHANNEL "=",
                                        ENV_PARENT "="};
    for (size_t i = 0; i < HT_ARRAY_LEN(names); i++)
        if (strncmp(text, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

static int copy_env(struct starter_program *p) {
    size_t n = 0, kept = 0;
    while (environ && environ[n])
        n++;
    p->env = ht_calloc(n + 1, sizeof *p->env);
    for (size_t i = 0; p->env && i < n; i++)
        if (!is_of_one(environ[i]) && !(p->env[kept++] = ht_strndup(environ[i], strlen(environ[i]))))
            return HT_ENOMEM;
    return p->env ? HT_OK : HT_ENOMEM;
}

static void program_free(struct starter_program *p) {
    for (size_t i = 0; p->env && p->env[i]; i++)
        ht_free(p->env[i]);
    ht_free(p->env);
    ht_free(p->argv);
    ht_free(p->texts);
    ht_free(p->path);
}

static int copy_program(struct starter_program *p, struct ht_errmsg *err) {
    struct ht_buf all = {0};
    size_t n = 0;
    int rc = read_all("/proc/self/cmdline", &all);
    size_t size = ht_buf_size(&all);
    p->texts = rc == HT_OK ? ht_malloc(size + 1) : NULL;
    if (p->texts && size)
        memcpy(p->texts, ht_buf_head(&all), size);
    ht_buf_free(&all);
    if (rc == HT_EIO || (p->texts && size == 0))
        return ht_fail(err, HT_EIO, "/proc is not there, which knows how this program was started");
    if (!p->texts)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    p->texts[size] = '\0';
    for (size_t i = 0; i < size; i++)
        n += p->texts[i] == '\0';
    p->argv = ht_calloc(n + 2, sizeof *p->argv);
    if (!p->argv || copy_env(p) < 0)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    size_t at = 0;
    for (size_t i = 0; at < size; i++) {
        p->argv[i] = p->texts + at;
        at += strlen(p->texts + at) + 1;
    }
    p->path = find_program(p->argv[0]);
    return p->path ? HT_OK : ht_fail(err, HT_EIO, "the file of this program cannot be found");
}

/* ---- making it ---- */

/* A socket whose number a variable has, which is taken out of the environment. -1: there is no such variable. */
static int take_socket(const char *name, struct ht_errmsg *err) {
    const char *text = getenv(name);
    struct stat st;
    char *end = NULL;
    if (!text)
        return -1;
    long fd = ht_is_digit(*text) ? strtol(text, &end, 10) : -1;
    bool good = end && !*end && fd > 2 && fd < 65536 && fstat((int)fd, &st) == 0 && S_ISSOCK(st.st_mode) &&
                fcntl((int)fd, F_SETFD, FD_CLOEXEC) == 0;
    int rc = good ? (int)fd : ht_fail(err, HT_EINVAL, "%s=%.20s: that is no socket of a kit's starter", name, text);
    unsetenv(name);
    return rc;
}

int proc_starter_channel(struct ht_errmsg *err) { return take_socket(ENV_CHANNEL, err); }

/* A program that counts the watchdog's time for one process: that is the kit. */
static void watchdog_is_ours(pid_t parent) {
    const char *text = getenv("WATCHDOG_PID");
    char own[24];
    if (!text || strtol(text, NULL, 10) != parent)
        return;
    snprintf(own, sizeof own, "%d", (int)getpid());
    setenv("WATCHDOG_PID", own, 1);
}

static void config_free(struct starter_config *c) {
    program_free(&c->program);
    ht_free(c->pid_file);
}

/* True in the kit. The other half ends in starter_run(). */
static bool divide(struct starter_config *c, int ends[2], struct proc_starter *s, pid_t *pid) {
    pid_t before = getpid();
    *pid = fork();
    bool kit = c->parent ? *pid == 0 : *pid > 0;
    if (*pid < 0 || kit) {
        close(ends[1]);
        *s = (struct proc_starter){.fd = ends[0], .parent = c->parent, .number = before};
        return true;
    }
    close(ends[0]);
    c->fd = ends[1];
    c->kit = c->parent ? *pid : before;
    starter_run(c);
}

int proc_starter_begin(struct proc_starter *s, const struct proc_starter_config *cfg, struct ht_errmsg *err) {
    struct starter_config c = {.parent = cfg->keep_pid, .slots = {{-1, -1}}};
    int ends[2], given = take_socket(ENV_PARENT, err);
    sigset_t all, before;
    *s = (struct proc_starter){.fd = -1, .number = getpid()};
    if (given < -1)
        return given;
    if (given >= 0) {
        *s = (struct proc_starter){.fd = given, .parent = true, .number = getppid()};
        return HT_OK;
    }
    if (cfg->slots)
        c.slots = *cfg->slots;
    int rc = copy_program(&c.program, err);
    if (rc == HT_OK && cfg->pid_file && !(c.pid_file = ht_strndup(cfg->pid_file, strlen(cfg->pid_file))))
        rc = ht_fail(err, HT_ENOMEM, "out of memory");
    if (rc == HT_OK && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        rc = ht_fail(err, HT_EIO, "%s", strerror(errno));
    if (rc < 0) {
        config_free(&c);
        return rc;
    }
    /* None may be lost between fork() and the starter's own handlers. */
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t pid;
    (void)divide(&c, ends, s, &pid);
    int e = errno;
    sigprocmask(SIG_SETMASK, &before, NULL);
    config_free(&c);
    if (pid < 0) {
        proc_starter_close(s);
        return ht_fail(err, HT_EIO, "fork: %s", strerror(e));
    }
    if (s->parent)
        watchdog_is_ours(s->number);
    return HT_OK;
}
