#include "guard/value.h"

#include "base/base64.h"
#include "base/mem.h"
#include "guard/locked.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PARTS_MAX 16

enum part_kind { PART_TEXT, PART_FILE, PART_ENV, PART_COMMAND };

struct part {
    enum part_kind kind;
    char *text; /* the text itself, or path, name, command */
    struct guard_locked secret;
    bool has;
    struct stat seen; /* of a file */
    /* of a command */
    struct guard_value *v;
    struct io_child *child;    /* NULL: it does not run */
    struct guard_locked fresh; /* what it prints */
    uint64_t done_ms;          /* when it ended last; 0: never */
    bool refused;              /* the service did not take its answer */
    struct ht_errmsg why;      /* it failed; "": it did not */
};

struct guard_value {
    struct part parts[PARTS_MAX];
    size_t n;
    char *user; /* NULL: no Basic */
    struct guard_locked whole;
    bool whole_known;
    struct io_loop *loop; /* NULL: no command can run */
    void (*ready)(void *ctx, const char *why);
    void *ctx;
};

/* ---- parsing ---- */

static int add(struct guard_value *v, enum part_kind kind, const char *p, size_t n, struct ht_errmsg *err) {
    if (n == 0 && kind == PART_TEXT)
        return HT_OK;
    if (v->n == PARTS_MAX)
        return ht_fail(err, HT_EINVAL, "too many pieces in one value; at most %d", PARTS_MAX);
    struct part *part = &v->parts[v->n];
    *part = (struct part){.kind = kind, .text = ht_strndup(p, n), .v = v};
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
            return ht_fail(err, HT_EINVAL,
                           "${file:..} needs a path that begins with / or ~/, as in ${file:~/.secrets/openai}");
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

static int parse(struct guard_value *v, const char *text, struct ht_errmsg *err) {
    int rc = HT_OK;
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
                 : ht_fail(err, HT_EINVAL, "a ${ has no closing }; a plain ${ is written $${");
        p = end ? end + 1 : at;
    }
    return rc == HT_OK && v->n == 0 ? ht_fail(err, HT_EINVAL, "the value is empty") : rc;
}

struct guard_value *guard_value_parse(const char *text, const char *user, int *rc, struct ht_errmsg *err) {
    struct guard_value *v = ht_calloc(1, sizeof *v);
    *rc = v ? HT_OK : ht_fail(err, HT_ENOMEM, "out of memory");
    if (v && user && (strchr(user, ':') || !*user))
        *rc = ht_fail(err, HT_EINVAL, "a user's name must not be empty, and must not contain a colon");
    if (*rc == HT_OK && user && !(v->user = ht_strndup(user, strlen(user))))
        *rc = ht_fail(err, HT_ENOMEM, "out of memory");
    if (*rc == HT_OK)
        *rc = parse(v, text, err);
    if (*rc < 0)
        guard_value_free(&v);
    return v;
}

void guard_value_free(struct guard_value **vp) {
    struct guard_value *v = *vp;
    *vp = NULL;
    if (!v)
        return;
    for (size_t i = 0; i < v->n; i++) {
        io_child_cancel(&v->parts[i].child);
        guard_locked_free(&v->parts[i].fresh);
        /* A value without a source may be a secret that is written in the file itself. */
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
static int read_all(int fd, struct guard_locked *to) {
    for (;;) {
        ssize_t n = read(fd, to->p + to->n, to->cap - to->n);
        if (n < 0 && errno == EINTR)
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
        return failed(p, "it is not a regular file", err);
    }
    if (rc == HT_OK)
        rc = read_all(fd, &p->secret);
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
static int check(const struct part *p, struct guard_locked *s, struct ht_errmsg *err) {
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

/* ---- a command ---- */

static void take_answer(struct part *p, int err, size_t n, const char *text) {
    p->fresh.n = n;
    p->done_ms = io_now_ms(p->v->loop);
    if ((err == HT_OK ? check(p, &p->fresh, &p->why) : failed(p, text, &p->why)) < 0) {
        p->has = p->has && !p->refused; /* what is good still, stays */
    } else {
        struct guard_locked old = p->secret;
        p->secret = p->fresh;
        p->fresh = old;
        p->why.text[0] = '\0';
        p->has = true;
        p->refused = false;
        p->v->whole_known = false;
    }
    guard_locked_free(&p->fresh);
    if (!p->has)
        guard_locked_free(&p->secret);
}

static void command_ended(void *ctx, int err, size_t n, const char *text) {
    struct part *p = ctx;
    struct guard_value *v = p->v;
    p->child = NULL;
    take_answer(p, err, n, text);
    v->ready(v->ctx, p->why.text[0] ? p->why.text : NULL);
}

static int start_command(struct part *p, struct ht_errmsg *err) {
    static const struct io_child_ops ops = {.ended = command_ended};
    const char *const argv[] = {"/bin/sh", "-c", p->text, NULL};
    struct ht_errmsg why;
    int rc = guard_locked_take(&p->fresh, GUARD_SECRET_MAX);
    if (rc < 0)
        return ht_fail(err, rc, "%s", ht_err_text(rc));
    struct io_child_config cfg = {
        .argv = argv, .into = p->fresh.p, .cap = GUARD_SECRET_MAX, .limit_ms = GUARD_COMMAND_WAIT_MS};
    p->child = io_child_start(p->v->loop, &cfg, &ops, p, &why);
    return p->child ? HT_OK : failed(p, why.text, err);
}

static bool is_due(const struct part *p, uint64_t now_ms) {
    bool good = p->has && !p->refused && !p->why.text[0];
    return p->done_ms == 0 || now_ms >= p->done_ms + (good ? GUARD_COMMAND_MS : GUARD_COMMAND_PAUSE_MS);
}

/* The answer is there, if need be an old one while the next is on its way; HT_EAGAIN: it comes. */
static int load_command(struct part *p, uint64_t now_ms, bool run, struct ht_errmsg *err) {
    if (!p->child && run && is_due(p, now_ms)) {
        int rc = p->v->loop ? start_command(p, &p->why) : failed(p, "nothing runs it here", &p->why);
        p->done_ms = rc < 0 ? now_ms : p->done_ms;
    }
    if (p->has && !(p->refused && p->child))
        return HT_OK;
    if (p->child || !p->why.text[0])
        return HT_EAGAIN;
    return ht_fail(err, HT_EIO, "%s", p->why.text);
}

/* ---- a part ---- */

static int load_part(struct part *p, uint64_t now_ms, bool run, bool *changed, struct ht_errmsg *err) {
    bool fresh = false;
    if (p->kind == PART_TEXT)
        return HT_OK;
    if (p->kind == PART_COMMAND)
        return load_command(p, now_ms, run, err);
    int rc = p->secret.p ? HT_OK : guard_locked_take(&p->secret, GUARD_SECRET_MAX + 1);
    if (rc < 0)
        return ht_fail(err, rc, "%s", ht_err_text(rc));
    rc = p->kind == PART_FILE ? load_file(p, &fresh, err) : load_env(p, &fresh, err);
    if (rc == HT_OK && fresh)
        rc = check(p, &p->secret, err);
    p->has = rc == HT_OK;
    *changed = *changed || fresh;
    if (rc < 0) {
        explicit_bzero(p->secret.p, p->secret.cap);
        p->secret.n = 0;
    }
    return rc;
}

/* ---- the whole ---- */

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
            v->whole.n += ht_base64_put(v->whole.p + v->whole.n, plain.p, plain.n);
    } else if (rc == HT_OK) {
        rc = put_plain(v, &v->whole);
    }
    guard_locked_free(&plain);
    return rc == HT_OK ? rc : ht_fail(err, rc, "%s", ht_err_text(rc));
}

void guard_value_run_in(struct guard_value *v, struct io_loop *loop, void (*ready)(void *ctx, const char *why),
                        void *ctx) {
    v->loop = loop;
    v->ready = ready;
    v->ctx = ctx;
}

int guard_value_load(struct guard_value *v, uint64_t now_ms, bool run, struct ht_errmsg *err) {
    bool changed = false;
    int rc = HT_OK;
    for (size_t i = 0; i < v->n && (rc == HT_OK || rc == HT_EAGAIN); i++) {
        int one = load_part(&v->parts[i], now_ms, run, &changed, err);
        rc = one < 0 ? one : rc;
    }
    if (rc == HT_OK && (changed || !v->whole_known))
        rc = assemble(v, err);
    v->whole_known = rc == HT_OK || (rc == HT_EAGAIN && v->whole_known && !changed);
    if (rc < 0 && rc != HT_EAGAIN)
        guard_locked_free(&v->whole);
    return rc;
}

void guard_value_stale(struct guard_value *v) {
    for (size_t i = 0; i < v->n; i++)
        v->parts[i].refused = v->parts[i].has && v->parts[i].kind == PART_COMMAND;
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
