#include "cli/kits.h"

#include "base/mem.h"
#include "cli/cli.h"
#include "driver/url.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#define FILE_MAX (256u * 1024u)

/* ---- the list ---- */

static void forget(char **text) {
    if (*text)
        explicit_bzero(*text, strlen(*text));
    ht_free(*text);
    *text = NULL;
}

static void kit_free(struct cli_kit *k) {
    forget(&k->url);
    forget(&k->token);
    forget(&k->ca);
    forget(&k->pin);
}

void cli_kits_free(struct cli_kits *k) {
    for (size_t i = 0; i < k->n; i++)
        kit_free(&k->list[i]);
    ht_free(k->list);
    k->list = NULL;
    k->n = 0;
}

size_t cli_kits_find(const struct cli_kits *k, const char *url) {
    struct driver_url wanted, has;
    size_t i = 0;
    if (driver_url_parse(&wanted, url, WIRE_CONNECT_PATH, NULL) < 0)
        return k->n;
    while (i < k->n && !(driver_url_parse(&has, k->list[i].url, WIRE_CONNECT_PATH, NULL) == HT_OK &&
                         has.tls == wanted.tls && has.port == wanted.port && strcmp(has.path, wanted.path) == 0 &&
                         ht_slice_case_eq(ht_slice_str(has.host), ht_slice_str(wanted.host))))
        i++;
    return i;
}

void cli_kits_remove(struct cli_kits *k, size_t i) {
    kit_free(&k->list[i]);
    memmove(&k->list[i], &k->list[i + 1], (k->n - i - 1) * sizeof *k->list);
    k->n--;
}

static char *copy(const char *text) { return text && *text ? ht_strndup(text, strlen(text)) : NULL; }

static bool is_missing(const char *copied, const char *text) { return text && *text && !copied; }

int cli_kits_put(struct cli_kits *k, const struct cli_kit_texts *kit, bool first) {
    struct cli_kit made = {copy(kit->url), copy(kit->token), copy(kit->ca), copy(kit->pin)};
    size_t i = cli_kits_find(k, kit->url);
    struct cli_kit *more = ht_realloc(k->list, (k->n + 1) * sizeof *more);
    k->list = more ? more : k->list;
    if (!more || !made.url || is_missing(made.token, kit->token) || is_missing(made.ca, kit->ca) ||
        is_missing(made.pin, kit->pin)) {
        kit_free(&made);
        return HT_ENOMEM;
    }
    if (i < k->n)
        cli_kits_remove(k, i);
    else
        i = k->n;
    i = first ? 0 : i;
    memmove(&k->list[i + 1], &k->list[i], (k->n - i) * sizeof *k->list);
    k->list[i] = made;
    k->n++;
    return HT_OK;
}

/* ---- the file ---- */

static void locate(char path[PATH_MAX]) {
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    bool given = config && *config == '/'; /* the XDG specification says to ignore a relative path */
    int n = 0;
    if (given || (home && *home == '/'))
        n = snprintf(path, PATH_MAX, "%s%s/hoody-tunnel/kits", given ? config : home, given ? "" : "/.config");
    if (n <= 0 || n >= PATH_MAX - 32)
        path[0] = '\0';
}

/* Takes line number `at`, without its end. */
static int take_line(struct cli_kits *k, const char *line, unsigned at, struct ht_errmsg *err) {
    size_t word = strcspn(line, " \t");
    const char *text = line + word + strspn(line + word, " \t");
    struct cli_kit *last = k->n ? &k->list[k->n - 1] : NULL;
    struct ht_slice key = ht_slice_of(line, word);
    char **to = !last                       ? NULL
                : ht_slice_is(key, "token") ? &last->token
                : ht_slice_is(key, "ca")    ? &last->ca
                : ht_slice_is(key, "pin")   ? &last->pin
                                            : NULL;
    struct driver_url url;
    struct ht_errmsg why;
    if (*line == '\0' || *line == '#')
        return HT_OK;
    if (*text == '\0')
        return ht_fail(err, HT_EINVAL, "%s:%u: there is nothing behind the word", k->path, at);
    if (ht_slice_is(key, "kit")) {
        if (driver_url_parse(&url, text, WIRE_CONNECT_PATH, &why) < 0)
            return ht_fail(err, HT_EINVAL, "%s:%u: %s", k->path, at, why.text);
        struct cli_kit *more = ht_realloc(k->list, (k->n + 1) * sizeof *more);
        k->list = more ? more : k->list;
        if (!more || !(more[k->n] = (struct cli_kit){.url = copy(text)}).url)
            return HT_ENOMEM;
        k->n++;
        return HT_OK;
    }
    if (!to || *to)
        return ht_fail(err, HT_EINVAL,
                       "%s:%u: only \"kit URL\" is expected here, and \"token\", \"ca\" and \"pin\" once behind it",
                       k->path, at);
    return (*to = copy(text)) ? HT_OK : HT_ENOMEM;
}

static int take_lines(struct cli_kits *k, char *text, struct ht_errmsg *err) {
    int rc = HT_OK;
    unsigned at = 0;
    for (char *line = text, *next; line && rc == HT_OK; line = next) {
        next = strchr(line, '\n');
        size_t n = next ? (size_t)(next - line) : strlen(line);
        while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == ' ' || line[n - 1] == '\t'))
            n--;
        line[n] = '\0';
        next = next ? next + 1 : NULL;
        rc = take_line(k, line, ++at, err);
    }
    return rc == HT_ENOMEM ? ht_fail(err, rc, "%s", ht_err_text(rc)) : rc;
}

static bool may_be_read(int fd, const char *path, struct ht_errmsg *err) {
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        ht_fail(err, HT_EIO, "%s is not a regular file", path);
        return false;
    }
    if (st.st_uid != geteuid() && geteuid() != 0) { /* root may read it in any case, and sudo keeps HOME */
        ht_fail(err, HT_EACCESS, "%s belongs to another user", path);
        return false;
    }
    if (st.st_mode & (S_IRWXG | S_IRWXO))
        cli_complain("warning: other users of this machine may read or write %s; chmod 600 keeps its tokens secret",
                     path);
    return true;
}

int cli_kits_load(struct cli_kits *k, struct ht_errmsg *err) {
    *k = (struct cli_kits){.n = 0};
    locate(k->path);
    int fd = *k->path ? open(k->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    if (fd < 0) /* a daemon may not be allowed into its home: then it has no kits */
        return !*k->path || errno == ENOENT || errno == ENOTDIR || errno == EACCES
                   ? HT_OK
                   : ht_fail(err, HT_EIO, "%s cannot be opened: %s", k->path, strerror(errno));
    int rc = may_be_read(fd, k->path, err) ? HT_OK : HT_EIO;
    char *text = rc == HT_OK ? ht_malloc(FILE_MAX + 1) : NULL;
    ssize_t n = text ? read(fd, text, FILE_MAX + 1) : 0;
    close(fd);
    if (rc == HT_OK && (!text || n < 0 || n > (ssize_t)FILE_MAX))
        rc = ht_fail(err, HT_EIO, "%s cannot be read, or is too large", k->path);
    if (rc == HT_OK) {
        text[n] = '\0';
        rc = take_lines(k, text, err);
    }
    if (text)
        explicit_bzero(text, FILE_MAX + 1);
    ht_free(text);
    return rc;
}

/* ---- changing it ---- */

static int failed(const char *what, const char *path, struct ht_errmsg *err) {
    return ht_fail(err, errno == EACCES ? HT_EACCESS : HT_EIO, "cannot %s %s: %s", what, path, strerror(errno));
}

/* Makes the folders of the file, and locks the last one against other processes that change the file. */
static int lock_folder(const char *path, struct ht_errmsg *err) {
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    for (char *slash = folder; (slash = strchr(slash + 1, '/'));) {
        *slash = '\0';
        if (mkdir(folder, 0700) < 0 && errno != EEXIST && errno != EISDIR)
            return failed("make", folder, err);
        *slash = '/';
    }
    *strrchr(folder, '/') = '\0';
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || flock(fd, LOCK_EX) < 0) {
        int rc = failed("lock", folder, err);
        if (fd >= 0)
            close(fd);
        return rc;
    }
    if (st.st_uid != geteuid()) { /* a file of this user in it would keep the folder's owner from reading it */
        close(fd);
        return ht_fail(err, HT_EACCESS, "%s belongs to another user", folder);
    }
    return fd;
}

int cli_kits_begin(struct cli_kits_change *c, struct ht_errmsg *err) {
    char path[PATH_MAX];
    *c = (struct cli_kits_change){.lock = -1};
    locate(path);
    if (!*path)
        return ht_fail(err, HT_EINVAL, "neither XDG_CONFIG_HOME nor HOME is set, so there is no place to store a kit");
    int fd = lock_folder(path, err);
    if (fd < 0)
        return fd;
    c->lock = fd;
    return cli_kits_load(&c->kits, err);
}

static int put_line(struct ht_buf *b, const char *word, const char *text) {
    return text ? ht_buf_printf(b, "%s %s\n", word, text) : HT_OK;
}

static size_t length(const char *text) { return text ? strlen(text) : 0; }

int cli_kits_save(struct cli_kits_change *c, struct ht_errmsg *err) {
    static const char head[] =
        "# What `hoody-tunnel login` has stored. The first kit is the default. Keep it to yourself.\n";
    char target[PATH_MAX];
    struct ht_buf text = {0};
    size_t room = sizeof head;
    for (size_t i = 0; i < c->kits.n; i++) {
        const struct cli_kit *k = &c->kits.list[i];
        room += 32 + strlen(k->url) + length(k->token) + length(k->ca) + length(k->pin);
    }
    /* Reserved at once, because a buffer that grows leaves copies of tokens behind. */
    int rc = ht_buf_reserve(&text, room) ? ht_buf_append_str(&text, head) : HT_ENOMEM;
    for (size_t i = 0; i < c->kits.n && rc == HT_OK; i++) {
        rc = put_line(&text, "kit", c->kits.list[i].url);
        if (rc == HT_OK)
            rc = put_line(&text, "token", c->kits.list[i].token);
        if (rc == HT_OK)
            rc = put_line(&text, "ca", c->kits.list[i].ca);
        if (rc == HT_OK)
            rc = put_line(&text, "pin", c->kits.list[i].pin);
    }
    const char *path = realpath(c->kits.path, target) ? target : c->kits.path;
    if (rc == HT_OK && cli_replace_file(path, S_IRUSR | S_IWUSR, &text, NULL) < 0)
        rc = failed("write", path, err);
    else if (rc < 0)
        ht_fail(err, rc, "%s", ht_err_text(rc));
    if (text.data)
        explicit_bzero(text.data, text.cap);
    ht_buf_free(&text);
    return rc;
}

void cli_kits_end(struct cli_kits_change *c) {
    cli_kits_free(&c->kits);
    if (c->lock >= 0)
        close(c->lock);
    c->lock = -1;
}
