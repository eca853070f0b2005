#include "auth/passwords.h"

#include "base/clock.h"
#include "base/library.h"
#include "base/mem.h"

#include <crypt.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define AUTH_NO_CRYPT "this system has no libcrypt, which knows hashes of passwords"
#define MAKE_ONE "`hoody-tunnel password new NAME` makes a good one"

/* ---- hashes ---- */

#define CRYPT(X) X(crypt_r) X(crypt_gensalt_rn)
static struct { CRYPT(HT_LIBRARY_MEMBER) } crypt_lib;
#define CRYPT_ROW(f) HT_LIBRARY_FUNCTION(crypt_lib, f)
static const struct ht_library_function crypt_rows[] = {CRYPT(CRYPT_ROW)};
static struct ht_library crypt_file = {
    {"libcrypt.so.1", "libcrypt.so.2"}, crypt_rows, HT_ARRAY_LEN(crypt_rows), HT_LIBRARY_UNKNOWN};

static bool begins(const char *s, const char *what) { return strncmp(s, what, strlen(what)) == 0; }

static bool is_hash_text(const char *s) {
    for (; *s; s++)
        if (*s <= ' ' || *s >= 0x7f || strchr(":;*!\\", *s))
            return false;
    return true;
}

/* The number behind `p`; 0: there is none, or it is too large. */
static unsigned long number(const char *p) {
    return *p >= '0' && *p <= '9' && strspn(p, "0123456789") <= 7 ? strtoul(p, NULL, 10) : 0;
}

const char *auth_hash_fault(const char *h) {
    if (strlen(h) >= AUTH_HASH_MAX || !is_hash_text(h))
        return "has something that is no hash";
    if (begins(h, "$2b$") || begins(h, "$2y$") || begins(h, "$2a$")) {
        unsigned long cost = number(h + 4);
        if (strlen(h) != 60 || h[6] != '$')
            return "has a bcrypt hash that is cut or damaged";
        return cost < 10   ? "has a bcrypt hash with a cost below 10, which is guessed too fast"
               : cost > 14 ? "has a bcrypt hash with a cost above 14, which takes too long at each login"
                           : NULL;
    }
    if (begins(h, "$5$") || begins(h, "$6$")) {
        unsigned long rounds = begins(h + 3, "rounds=") ? number(h + 10) : 5000;
        size_t digest = h[1] == '5' ? 43 : 86;
        const char *last = strrchr(h, '$');
        if (strlen(last + 1) != digest || last < h + 4)
            return "has a SHA-crypt hash that is cut or damaged";
        return rounds < 5000 ? "has a SHA-crypt hash with less than 5000 rounds, which is guessed too fast"
               : rounds > 1000000
                   ? "has a SHA-crypt hash with more than 1000000 rounds, which takes too long at each login"
                   : NULL;
    }
    if (begins(h, "$y$"))
        return strlen(h) < 60 ? "has a yescrypt hash that is cut or damaged" : NULL;
    if (begins(h, "$apr1$") || begins(h, "$1$") || begins(h, "{SHA}") || begins(h, "$md5"))
        return "has an MD5 or SHA-1 hash, which is guessed too fast";
    return "has a password in plain text, or a hash that is not known here";
}

/* ---- the text ---- */

static int compare(const void *a, const void *b) {
    const struct auth_user *x = a, *y = b;
    size_t n = ht_min(x->name.n, y->name.n);
    int c = memcmp(x->name.p, y->name.p, n);
    return c ? c : x->name.n < y->name.n ? -1 : x->name.n > y->name.n;
}

int auth_user_name_check(struct ht_slice name, struct ht_errmsg *err) {
    if (name.n == 0 || name.n > AUTH_USER_MAX)
        return ht_fail(err, HT_EINVAL, "a user's name has 1 to %d bytes", AUTH_USER_MAX);
    if (name.p[0] == '#' || memchr(name.p, ':', name.n))
        return ht_fail(err, HT_EINVAL, "a user's name has no colon, and does not begin with #");
    for (size_t i = 0; i < name.n; i++)
        if ((unsigned char)name.p[i] < ' ' || name.p[i] == 0x7f)
            return ht_fail(err, HT_EINVAL, "the name holds a control character");
    return HT_OK;
}

static int parse_line(struct auth_user *u, const char *file, unsigned line, char *text, size_t n,
                      struct ht_errmsg *err) {
    struct ht_errmsg why;
    char *colon = memchr(text, ':', n);
    if (memchr(text, '\0', n))
        return ht_fail(err, HT_EINVAL, "%s:%u: this line holds a NUL", file, line);
    if (!colon || colon == text)
        return ht_fail(err, HT_EINVAL, "%s:%u: a line is NAME:HASH; " MAKE_ONE, file, line);
    u->name = ht_slice_of(text, (size_t)(colon - text));
    if (auth_user_name_check(u->name, &why) < 0)
        return ht_fail(err, HT_EINVAL, "%s:%u: %s", file, line, why.text);
    u->hash = colon + 1;
    if (strlen(u->hash) >= AUTH_HASH_MAX || !is_hash_text(u->hash)) /* which could be a password */
        return ht_fail(err, HT_EINVAL, "%s:%u: what follows the colon is not a hash; " MAKE_ONE, file, line);
    const char *fault = auth_hash_fault(u->hash);
    if (fault)
        return ht_fail(err, HT_EINVAL, "%s:%u: this user %s; " MAKE_ONE, file, line, fault);
    return HT_OK;
}

static int parse_lines(struct auth_passwords *p, const char *name, struct ht_errmsg *err) {
    unsigned line = 0;
    for (char *at = p->text, *end = p->text + p->text_len; at < end;) {
        char *eol = memchr(at, '\n', (size_t)(end - at)), *next = eol ? eol + 1 : end;
        size_t n = (size_t)((eol ? eol : end) - at);
        line++;
        n -= n && at[n - 1] == '\r';
        at[n] = '\0'; /* there is a byte behind the text */
        if (n && *at != '#') {
            if (p->n == AUTH_PASSWORDS_MAX)
                return ht_fail(err, HT_EINVAL, "%s:%u: more than %d users are too many", name, line,
                               AUTH_PASSWORDS_MAX);
            struct auth_user *more = ht_realloc(p->users, (p->n + 1) * sizeof *more);
            if (!more)
                return ht_fail(err, HT_ENOMEM, "%s", ht_err_text(HT_ENOMEM));
            p->users = more;
            int rc = parse_line(&p->users[p->n], name, line, at, n, err);
            if (rc < 0)
                return rc;
            p->n++;
        }
        at = next;
    }
    return HT_OK;
}

int auth_passwords_parse(struct auth_passwords *p, const char *name, const char *text, size_t n,
                         struct ht_errmsg *err) {
    *p = (struct auth_passwords){.text_len = n};
    p->text = ht_strndup(text, n);
    if (!p->text)
        return ht_fail(err, HT_ENOMEM, "%s", ht_err_text(HT_ENOMEM));
    int rc = parse_lines(p, name, err);
    if (rc < 0)
        return rc;
    if (p->n == 0)
        return ht_fail(err, HT_EINVAL, "%s has no user, so nobody could log in; " MAKE_ONE, name);
    qsort(p->users, p->n, sizeof *p->users, compare);
    for (size_t i = 1; i < p->n; i++)
        if (compare(&p->users[i - 1], &p->users[i]) == 0)
            return ht_fail(err, HT_EINVAL, "%s has the user %.*s twice", name, HT_SLICE_ARG(p->users[i].name));
    return HT_OK;
}

void auth_passwords_free(struct auth_passwords *p) {
    if (p->text)
        explicit_bzero(p->text, p->text_len);
    ht_free(p->text);
    ht_free(p->users);
    *p = (struct auth_passwords){.n = 0};
}

const struct auth_user *auth_passwords_find(const struct auth_passwords *p, struct ht_slice name) {
    struct auth_user wanted = {.name = name};
    return p->n ? bsearch(&wanted, p->users, p->n, sizeof *p->users, compare) : NULL;
}

/* ---- the file ---- */

static int check_file(int fd, const char *name, struct ht_errmsg *err) {
    struct stat st;
    if (fstat(fd, &st) != 0)
        return ht_fail(err, HT_EIO, "%s cannot be read: %s", name, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return ht_fail(err, HT_EIO, "%s is not a file", name);
    if (st.st_mode & S_IRWXO || st.st_mode & S_IWGRP)
        return ht_fail(err, HT_EIO,
                       "%s can be read or changed by other users of this machine; `chmod 600 %s` mends that", name,
                       name);
    if (st.st_size > AUTH_PASSWORDS_FILE)
        return ht_fail(err, HT_EIO, "%s has more than %d bytes", name, AUTH_PASSWORDS_FILE);
    return HT_OK;
}

int auth_passwords_load(struct auth_passwords *p, const char *name, struct ht_errmsg *err) {
    *p = (struct auth_passwords){.n = 0};
    if (!ht_library_need(&crypt_file))
        return ht_fail(err, HT_EIO, "%s cannot be used: " AUTH_NO_CRYPT, name);
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return ht_fail(err, HT_EIO, "%s cannot be opened: %s", name, strerror(errno));
    int rc = check_file(fd, name, err);
    char *text = rc == HT_OK ? ht_malloc(AUTH_PASSWORDS_FILE + 1) : NULL;
    size_t n = 0;
    ssize_t got = 1;
    while (text && n <= AUTH_PASSWORDS_FILE && (got = read(fd, text + n, AUTH_PASSWORDS_FILE + 1 - n)) > 0)
        n += (size_t)got;
    if (rc == HT_OK && !text)
        rc = ht_fail(err, HT_ENOMEM, "%s", ht_err_text(HT_ENOMEM));
    else if (rc == HT_OK && (got < 0 || n > AUTH_PASSWORDS_FILE))
        rc = ht_fail(err, HT_EIO, "%s cannot be read: %s", name, got < 0 ? strerror(errno) : "it grows");
    if (rc == HT_OK)
        rc = auth_passwords_parse(p, name, text, n, err);
    if (text)
        explicit_bzero(text, n);
    ht_free(text);
    close(fd);
    return rc;
}

bool auth_password_fits(const char *hash, const char *password) {
    /* Not ht_malloc(), whose counters belong to one thread. */
    struct crypt_data *data = ht_library_need(&crypt_file) ? calloc(1, sizeof *data) : NULL;
    if (!data)
        return false;
    const char *made = crypt_lib.crypt_r(password, hash, data);
    size_t n = strlen(hash);
    bool fits = made && *made != '*' && ht_const_time_eq(made, strlen(made), hash, n);
    explicit_bzero(data, sizeof *data);
    free(data);
    return fits;
}

int auth_password_hash(const char *password, char out[AUTH_HASH_MAX], struct ht_errmsg *err) {
    static const char *const kinds[] = {"$y$", "$2b$"}; /* yescrypt, or bcrypt where there is none */
    if (strlen(password) > AUTH_PASSWORD_MAX)
        return ht_fail(err, HT_EINVAL, "a password has at most %d bytes", AUTH_PASSWORD_MAX);
    if (!ht_library_need(&crypt_file))
        return ht_fail(err, HT_EIO, AUTH_NO_CRYPT);
    struct crypt_data *data = calloc(1, sizeof *data);
    const char *made = NULL;
    char setting[CRYPT_GENSALT_OUTPUT_SIZE];
    for (size_t i = 0; i < HT_ARRAY_LEN(kinds) && data && !made; i++)
        if (crypt_lib.crypt_gensalt_rn(kinds[i], i ? 12 : 0, NULL, 0, setting, sizeof setting))
            made = crypt_lib.crypt_r(password, setting, data);
    int rc = made && *made != '*' && strlen(made) < AUTH_HASH_MAX
                 ? HT_OK
                 : ht_fail(err, HT_EIO, "this system makes no hash of a password that is taken here");
    if (rc == HT_OK)
        memcpy(out, made, strlen(made) + 1);
    if (data)
        explicit_bzero(data, sizeof *data);
    free(data);
    return rc;
}
