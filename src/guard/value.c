#include "guard/value.h"

#include "base/clock.h"
#include "base/mem.h"
#include "guard/locked.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PARTS_MAX 16

enum part_kind { PART_TEXT, PART_FILE, PART_ENV, PART_COMMAND };

struct part {
    enum part_kind kind;
    char *text; /* the text itself, or path, name, command */
    struct guard_locked secret;
    struct stat seen; /* of a file */
    uint64_t read_ms;
    bool has;
};

struct guard_value {
    struct part parts[PARTS_MAX];
    size_t n;
    char *user; /* NULL: no Basic */
    struct guard_locked whole;
    bool whole_known;
};

/* ---- parsing ---- */

static int add(struct guard_value *v, enum part_kind kind, const char *p, size_t n, struct ht_errmsg *err) {
    if (n == 0 && kind == PART_TEXT)
        return HT_OK;
    if (v->n == PARTS_MAX)
        return ht_fail(err, HT_EINVAL, "more than %d pieces in one value", PARTS_MAX);
    struct part *part = &v->parts[v->n];
    *part = (struct part){.kind = kind, .text = ht_strndup(p, n)};
    if (!part->text)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    v->n++;
    return HT_OK;
}

static int add_source(struct guard_value *v, const char *p, size_t n, struct ht_errmsg *err) {
    static const struct {
        const char *word;
        enum part_kind kind;
    } kinds[] = {{"file:", PART_FILE}, {"env:", PART_ENV}, {"command:", PART_COMMAND}};
    for (size_t i = 0; i < HT_ARRAY_LEN(kinds); i++) {
        size_t w = strlen(kinds[i].word);
        if (n <= w || memcmp(p, kinds[i].word, w) != 0)
            continue;
        const char *what = p + w;
        if (kinds[i].kind == PART_FILE && what[0] != '/' && !(what[0] == '~' && n > w + 1 && what[1] == '/'))
            return ht_fail(err, HT_EINVAL, "${file:..} wants a whole path, as in ${file:~/.secrets/openai}");
        return add(v, kinds[i].kind, what, n - w, err);
    }
    /* Not shown: it may be the secret itself. */
    return ht_fail(err, HT_EINVAL,
                   "a secret is written ${file:PATH}, ${env:NAME} or ${command:TEXT}, and ${ itself $${");
}

/* A command may hold braces: the end is the one that closes the first. */
static const char *closing(const char *p) {
    unsigned depth = 1;
    for (; *p; p++) {
        depth += *p == '{';
        depth -= *p == '}';
        if (depth == 0)
            return p;
    }
    return NULL;
}

struct guard_value *guard_value_parse(const char *text, const char *user, struct ht_errmsg *err) {
    struct guard_value *v = ht_calloc(1, sizeof *v);
    int rc = v ? HT_OK : ht_fail(err, HT_ENOMEM, "out of memory");
    if (v && user && (strchr(user, ':') || !*user))
        rc = ht_fail(err, HT_EINVAL, "a user's name is not empty and has no colon in it");
    if (rc == HT_OK && user && !(v->user = ht_strndup(user, strlen(user))))
        rc = ht_fail(err, HT_ENOMEM, "out of memory");
    for (const char *p = text; rc == HT_OK && *p;) {
        const char *at = strstr(p, "${");
        bool escaped = at && at > p && at[-1] == '$';
        rc = add(v, PART_TEXT, p, at ? (size_t)(at - p) - escaped : strlen(p), err);
        if (!at || rc < 0)
            break;
        if (escaped) {
            rc = add(v, PART_TEXT, "${", 2, err);
            p = at + 2;
            continue;
        }
        const char *end = closing(at + 2);
        rc = end ? add_source(v, at + 2, (size_t)(end - at) - 2, err)
                 : ht_fail(err, HT_EINVAL, "a ${ has no } behind it");
        p = end ? end + 1 : at;
    }
    if (rc == HT_OK && v->n == 0)
        rc = ht_fail(err, HT_EINVAL, "it is empty");
    if (rc < 0)
        guard_value_free(&v);
    return v;
}

void guard_value_free(struct guard_value **vp) {
    struct guard_value *v = *vp;
    *vp = NULL;
    if (!v)
        return;
    for (size_t i = 0; i < v->n; i++) {
        /* A value without a source may be a secret that somebody wrote down. */
        explicit_bzero(v->parts[i].text, strlen(v->parts[i].text));
        ht_free(v->parts[i].text);
        guard_locked_free(&v->parts[i].secret);
    }
    guard_locked_free(&v->whole);
    ht_free(v->user);
    ht_free(v);
}

/* ---- reading ---- */

static const char *kind_name(const struct part *p) {
    return p->kind == PART_FILE ? "file" : p->kind == PART_ENV ? "variable" : "command";
}

static int failed(const struct part *p, const char *why, struct ht_errmsg *err) {
    return ht_fail(err, HT_EIO, "the secret of the %s %.200s: %s", kind_name(p), p->text, why);
}

/* Into locked memory only. 0 or HT_ESPACE, or another error. */
static int read_all(int fd, struct guard_locked *to, int wait_ms) {
    uint64_t end = ht_now_us() / 1000 + (uint64_t)wait_ms;
    for (;;) {
        uint64_t now = ht_now_us() / 1000;
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (wait_ms && (now >= end || poll(&ready, 1, (int)(end - now)) == 0))
            return HT_ETIMEDOUT;
        ssize_t n = read(fd, to->p + to->n, to->cap - to->n);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0)
            return ht_err_from_errno(errno);
        if (n == 0)
            return HT_OK;
        to->n += (size_t)n;
        if (to->n > GUARD_SECRET_MAX)
            return HT_ESPACE;
    }
}

static int read_file(struct part *p, const char *path, struct ht_errmsg *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return failed(p, strerror(errno), err);
    int rc = fstat(fd, &p->seen) == 0 ? HT_OK : HT_EIO;
    if (rc == HT_OK && !S_ISREG(p->seen.st_mode)) {
        close(fd);
        return failed(p, "it is no regular file", err);
    }
    if (rc == HT_OK)
        rc = read_all(fd, &p->secret, 0);
    close(fd);
    return rc == HT_OK ? rc : failed(p, rc == HT_ESPACE ? "it is too long" : ht_err_text(rc), err);
}

static int path_of(const struct part *p, char out[PATH_MAX], struct ht_errmsg *err) {
    const char *home = getenv("HOME");
    bool own = p->text[0] == '~';
    if (own && (!home || !*home))
        return failed(p, "HOME is not set", err);
    int n = snprintf(out, PATH_MAX, "%s%s", own ? home : "", p->text + own);
    return n < PATH_MAX ? HT_OK : failed(p, "its path is too long", err);
}

static int load_file(struct part *p, bool *changed, struct ht_errmsg *err) {
    char path[PATH_MAX];
    struct stat now;
    int rc = path_of(p, path, err);
    if (rc < 0)
        return rc;
    const struct stat *old = &p->seen;
    if (p->has && stat(path, &now) == 0 && now.st_ino == old->st_ino && now.st_dev == old->st_dev &&
        now.st_size == old->st_size && memcmp(&now.st_mtim, &old->st_mtim, sizeof now.st_mtim) == 0 &&
        memcmp(&now.st_ctim, &old->st_ctim, sizeof now.st_ctim) == 0)
        return HT_OK;
    *changed = true;
    p->secret.n = 0;
    return read_file(p, path, err);
}

/* Waits for the program's end, or ends it. */
static bool reap(pid_t pid, uint64_t end_ms) {
    int status;
    for (;;) {
        pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid)
            return WIFEXITED(status) && WEXITSTATUS(status) == 0;
        if (got < 0 && errno != EINTR)
            return true; /* somebody else has waited for it: what it said is all there is to go by */
        if (ht_now_us() / 1000 >= end_ms) {
            kill(-pid, SIGKILL);
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return false;
        }
        poll(NULL, 0, 2);
    }
}

static int run_command(struct part *p, struct ht_errmsg *err) {
    extern char **environ;
    int fds[2];
    pid_t pid;
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, usual;
    char sh[] = "sh", c[] = "-c";
    char *argv[] = {sh, c, p->text, NULL};
    uint64_t end = ht_now_us() / 1000 + GUARD_COMMAND_WAIT_MS;
    if (pipe2(fds, O_CLOEXEC) < 0)
        return failed(p, strerror(errno), err);
    sigemptyset(&none);
    sigemptyset(&usual);
    sigaddset(&usual, SIGPIPE);
    sigaddset(&usual, SIGUSR1);
    sigaddset(&usual, SIGUSR2);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, fds[1], 1);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &usual);
    int rc = posix_spawn(&pid, "/bin/sh", &files, &attr, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    close(fds[1]);
    if (rc == 0) {
        int got = read_all(fds[0], &p->secret, GUARD_COMMAND_WAIT_MS);
        bool good = reap(pid, got == HT_OK ? end : 0);
        rc = got == HT_OK && good ? HT_OK
                                  : failed(p,
                                           got == HT_ETIMEDOUT ? "it did not end in time"
                                           : got == HT_ESPACE  ? "it says too much"
                                           : got != HT_OK      ? ht_err_text(got)
                                                               : "it failed",
                                           err);
    } else {
        rc = failed(p, strerror(rc), err);
    }
    close(fds[0]);
    return rc;
}

static int load_command(struct part *p, uint64_t now_ms, bool *changed, struct ht_errmsg *err) {
    if (p->has && p->read_ms && now_ms - p->read_ms < GUARD_COMMAND_MS)
        return HT_OK;
    *changed = true;
    p->secret.n = 0;
    p->read_ms = now_ms ? now_ms : 1;
    return run_command(p, err);
}

static int load_env(struct part *p, bool *changed, struct ht_errmsg *err) {
    if (p->has)
        return HT_OK;
    const char *value = getenv(p->text);
    *changed = true;
    if (!value)
        return failed(p, "it is not set", err);
    if (strlen(value) > GUARD_SECRET_MAX)
        return failed(p, "it is too long", err);
    return guard_locked_put(&p->secret, value, strlen(value));
}

/* Line ends behind it go; what must not stand in a header is refused (response and request splitting). */
static int check(struct part *p, struct ht_errmsg *err) {
    struct guard_locked *s = &p->secret;
    while (s->n && (s->p[s->n - 1] == '\n' || s->p[s->n - 1] == '\r'))
        s->n--;
    if (s->n == 0)
        return failed(p, "it is empty", err);
    for (size_t i = 0; i < s->n; i++)
        if ((unsigned char)s->p[i] < 0x20 || s->p[i] == 0x7f)
            return failed(
                p, s->p[i] == '\n' || s->p[i] == '\r' ? "it has more than one line" : "it has a control byte in it",
                err);
    return HT_OK;
}

static int load_part(struct part *p, uint64_t now_ms, bool *changed, struct ht_errmsg *err) {
    bool fresh = false;
    if (p->kind == PART_TEXT)
        return HT_OK;
    int rc = p->secret.p ? HT_OK : guard_locked_take(&p->secret, GUARD_SECRET_MAX + 1);
    if (rc < 0)
        return ht_fail(err, rc, "%s", ht_err_text(rc));
    rc = p->kind == PART_FILE  ? load_file(p, &fresh, err)
         : p->kind == PART_ENV ? load_env(p, &fresh, err)
                               : load_command(p, now_ms, &fresh, err);
    if (rc == HT_OK && fresh)
        rc = check(p, err);
    p->has = rc == HT_OK;
    *changed = *changed || fresh;
    if (rc < 0) {
        explicit_bzero(p->secret.p, p->secret.cap);
        p->secret.n = 0;
    }
    return rc;
}

/* ---- the whole ---- */

static void base64(const char *in, size_t n, struct guard_locked *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        unsigned b[3] = {(unsigned char)in[i], i + 1 < n ? (unsigned char)in[i + 1] : 0,
                         i + 2 < n ? (unsigned char)in[i + 2] : 0};
        char *to = out->p + out->n;
        to[0] = digits[b[0] >> 2];
        to[1] = digits[(b[0] & 3) << 4 | b[1] >> 4];
        to[2] = i + 1 < n ? digits[(b[1] & 15) << 2 | b[2] >> 6] : '=';
        to[3] = i + 2 < n ? digits[b[2] & 63] : '=';
        out->n += 4;
    }
}

static size_t size_of(const struct guard_value *v) {
    size_t n = v->user ? strlen(v->user) + 1 : 0;
    for (size_t i = 0; i < v->n; i++)
        n += v->parts[i].kind == PART_TEXT ? strlen(v->parts[i].text) : v->parts[i].secret.n;
    return n;
}

static int put_plain(const struct guard_value *v, struct guard_locked *to) {
    int rc = HT_OK;
    if (v->user) {
        rc = guard_locked_put(to, v->user, strlen(v->user));
        rc = rc ? rc : guard_locked_put(to, ":", 1);
    }
    for (size_t i = 0; rc == HT_OK && i < v->n; i++) {
        const struct part *p = &v->parts[i];
        rc = p->kind == PART_TEXT ? guard_locked_put(to, p->text, strlen(p->text))
                                  : guard_locked_put(to, p->secret.p, p->secret.n);
    }
    return rc;
}

static int assemble(struct guard_value *v, struct ht_errmsg *err) {
    struct guard_locked plain = {.p = NULL};
    size_t n = size_of(v);
    int rc = guard_locked_take(&v->whole, n * 2 + 16);
    if (rc == HT_OK && v->user) {
        rc = guard_locked_take(&plain, n);
        rc = rc ? rc : put_plain(v, &plain);
        rc = rc ? rc : guard_locked_put(&v->whole, "Basic ", 6);
        if (rc == HT_OK)
            base64(plain.p, plain.n, &v->whole);
    } else if (rc == HT_OK) {
        rc = put_plain(v, &v->whole);
    }
    guard_locked_free(&plain);
    return rc == HT_OK ? rc : ht_fail(err, rc, "%s", ht_err_text(rc));
}

int guard_value_load(struct guard_value *v, uint64_t now_ms, struct ht_errmsg *err) {
    bool changed = !v->whole_known;
    int rc = HT_OK;
    for (size_t i = 0; rc == HT_OK && i < v->n; i++)
        rc = load_part(&v->parts[i], now_ms, &changed, err);
    if (rc == HT_OK && changed)
        rc = assemble(v, err);
    v->whole_known = rc == HT_OK;
    if (rc < 0)
        guard_locked_free(&v->whole);
    return rc;
}

void guard_value_stale(struct guard_value *v) {
    for (size_t i = 0; i < v->n; i++)
        v->parts[i].read_ms = 0;
}

struct ht_slice guard_value_text(const struct guard_value *v) {
    return ht_slice_of(v->whole.p, v->whole.n);
}

bool guard_value_is_secret(const struct guard_value *v) {
    if (v->user)
        return true;
    for (size_t i = 0; i < v->n; i++)
        if (v->parts[i].kind != PART_TEXT)
            return true;
    return false;
}

bool guard_value_is_in(const struct guard_value *v, struct ht_slice s) {
    for (size_t i = 0; i < v->n; i++) {
        const struct guard_locked *secret = &v->parts[i].secret;
        if (secret->n && s.n >= secret->n && memmem(s.p, s.n, secret->p, secret->n))
            return true;
    }
    return v->user && v->whole.n > 6 && s.n >= v->whole.n - 6 && memmem(s.p, s.n, v->whole.p + 6, v->whole.n - 6);
}
