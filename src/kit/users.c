/*
 * The users, their tokens and their rights. Tokens are compared nowhere else: the digest of a token is compared in
 * constant time with those in its bucket (rule AUTH-2).
 */
#include "kit/kit_priv.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"
#include "proc/files.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- tokens ---- */

void kit_token_digest(struct ht_slice token, uint8_t out[KIT_DIGEST]) {
    if (EVP_Digest(token.n ? token.p : "", token.n, out, NULL, EVP_sha256(), NULL) != 1)
        ht_random_bytes(out, KIT_DIGEST); /* out of memory: the digest of no token */
}

void kit_token_new(char token[KIT_TOKEN_TEXT], char line[KIT_TOKEN_LINE]) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"; /* RFC 4648 5 */
    uint8_t raw[33] = {0}, digest[KIT_DIGEST];
    ht_random_bytes(raw, 32);
    char *at = token + snprintf(token, KIT_TOKEN_TEXT, "ht_");
    for (size_t i = 0; i < 43; i++) {
        unsigned bit = (unsigned)i * 6, two = (unsigned)raw[bit / 8] << 8 | raw[bit / 8 + 1];
        *at++ = digits[two >> (10 - bit % 8) & 63];
    }
    *at = '\0';
    explicit_bzero(raw, sizeof raw);
    kit_token_digest(ht_slice_str(token), digest);
    at = line + snprintf(line, KIT_TOKEN_LINE, "sha256:");
    for (size_t i = 0; i < KIT_DIGEST; i++)
        at += snprintf(at, 3, "%02x", digest[i]);
}

/* Where a digest is looked for: with as many tokens as a file may have, going over all of them takes milliseconds. */
static struct ht_list *bucket_of(const struct kit *k, const uint8_t digest[KIT_DIGEST]) {
    uint64_t head;
    memcpy(&head, digest, sizeof head);
    uint64_t mixed = (head ^ k->digest_seed) * UINT64_C(0x9e3779b97f4a7c15);
    return (struct ht_list *)(uintptr_t)&k->by_digest[mixed >> 32 & (KIT_PASS_BUCKETS - 1)];
}

struct kit_pass *kit_pass_of_token(const struct kit *k, struct ht_slice token) {
    uint8_t digest[KIT_DIGEST];
    if (!k->has_token || token.n == 0)
        return NULL;
    kit_token_digest(token, digest);
    return kit_pass_of_digest(k, digest);
}

struct kit_pass *kit_pass_of_digest(const struct kit *k, const uint8_t digest[KIT_DIGEST]) {
    struct kit_pass *found = NULL;
    HT_LIST_FOR (it, bucket_of(k, digest)) {
        struct kit_pass *p = HT_LIST_ENTRY(it, struct kit_pass, like);
        bool same = ht_const_time_eq(p->digest, sizeof p->digest, digest, KIT_DIGEST);
        found = (same & !p->gone) ? p : found;
    }
    return found;
}

struct kit_user *kit_user_of_token(const struct kit *k, struct ht_slice token) {
    struct kit_pass *p = kit_pass_of_token(k, token);
    return p ? p->user : NULL;
}

struct kit_user *kit_user_of_nobody(struct kit *k) {
    return k->has_token ? NULL : &k->one_user;
}

/* ---- what a user may see ---- */

struct admin_viewer kit_viewer(const struct kit_user *user) {
    return user ? (struct admin_viewer){.name = user->name, .admin = user->admin, .user = user}
                : (struct admin_viewer){.name = ""};
}

bool kit_may_see(const struct admin_viewer *viewer, const struct kit_user *owner) {
    return viewer->admin || (viewer->user && viewer->user == owner);
}

/* ---- making and freeing ---- */

void users_set_up(struct kit *k) {
    uint8_t once[KIT_DIGEST];
    ht_list_init(&k->users);
    ht_list_init(&k->passes);
    for (size_t i = 0; i < KIT_PASS_BUCKETS; i++)
        ht_list_init(&k->by_digest[i]);
    ht_random_bytes(&k->digest_seed, sizeof k->digest_seed);
    ht_list_init(&k->one_user.node);
    snprintf(k->one_user.name, sizeof k->one_user.name, "admin");
    k->one_user.admin = true;
    k->one_user.may.modes = KIT_MODES_ALL;
    /* OpenSSL reads its configuration at the first digest. With --users that may come only when the sandbox no longer
     * lets it; with one token it has come by now. Without tokens the memory for it is saved. */
    if (k->opt->users)
        kit_token_digest(ht_slice_str(""), once);
}

void users_tear_down(struct kit *k) {
    struct ht_list *n;
    while ((n = ht_list_pop_front(&k->passes)))
        ht_free(HT_LIST_ENTRY(n, struct kit_pass, node));
    while ((n = ht_list_pop_front(&k->users))) {
        struct kit_user *u = HT_LIST_ENTRY(n, struct kit_user, node);
        users_allowance_free(&u->may);
        io_share_stop(&u->up);
        io_share_stop(&u->down);
        ht_free(u);
    }
}

static struct kit_pass *pass_find(const struct kit *k, const struct kit_user *user, const uint8_t digest[KIT_DIGEST]) {
    HT_LIST_FOR (it, bucket_of(k, digest)) {
        struct kit_pass *p = HT_LIST_ENTRY(it, struct kit_pass, like);
        if (p->user == user && memcmp(p->digest, digest, KIT_DIGEST) == 0)
            return p;
    }
    return NULL;
}

static struct kit_pass *pass_new(struct kit_user *user, const uint8_t digest[KIT_DIGEST]) {
    struct kit_pass *p = ht_calloc(1, sizeof *p);
    if (!p)
        return NULL;
    ht_list_init(&p->node);
    ht_list_init(&p->like);
    memcpy(p->digest, digest, KIT_DIGEST);
    p->user = user;
    return p;
}

static void pass_add(struct kit *k, struct kit_pass *p) {
    ht_list_push_back(&k->passes, &p->node);
    ht_list_push_back(bucket_of(k, p->digest), &p->like);
}

int users_set_token(struct kit *k, const uint8_t digest[KIT_DIGEST], bool *changed) {
    struct kit_pass *p = pass_find(k, &k->one_user, digest);
    *changed = k->one_user.lost_token = k->has_token && (!p || p->gone);
    if (!p && !(p = pass_new(&k->one_user, digest)))
        return HT_ENOMEM;
    HT_LIST_FOR (it, &k->passes)
        HT_LIST_ENTRY(it, struct kit_pass, node)->gone = true;
    p->gone = false;
    if (!ht_list_linked(&p->node))
        pass_add(k, p);
    k->has_token = true;
    return HT_OK;
}

/* ---- the file ---- */

int users_file_read(int fd, const char *name, struct ht_buf *out, struct ht_errmsg *err) {
    ssize_t got = 0;
    int rc = HT_OK;
    do {
        uint8_t *to = ht_buf_reserve(out, 65536);
        got = to ? read(fd, to, 65536) : -1;
        if (!to)
            rc = ht_fail(err, HT_ENOMEM, "out of memory");
        else if (got < 0 && errno != EINTR)
            rc = ht_fail(err, HT_EIO, "users file %s: %s", name, strerror(errno));
        else if (got > 0)
            ht_buf_commit(out, (size_t)got);
    } while (rc == HT_OK && got != 0 && ht_buf_size(out) <= (1u << 20));
    return rc;
}

static int read_all(struct kit *k, struct ht_buf *out, struct ht_errmsg *err) {
    const char *file = k->opt->users;
    struct stat st;
    int fd = proc_files_open(PROC_FILES_USERS, file, k->opt->user, err);
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_mode & S_IWOTH)
        ht_warn("kit", "users file %s: every user of this machine may write to it, and so let anybody in", file);
    int rc = users_file_read(fd, file, out, err);
    close(fd);
    return rc;
}

static struct kit_user *user_find(const struct kit *k, const char *name) {
    HT_LIST_FOR (it, &k->users) {
        struct kit_user *u = HT_LIST_ENTRY(it, struct kit_user, node);
        if (strcmp(u->name, name) == 0)
            return u;
    }
    return NULL;
}

/* The users and passes that are new in the file. They are made before anything changes, so that nothing can fail in
 * the middle. */
struct news {
    struct ht_list users, passes;
};

static struct kit_user *user_for(struct kit *k, struct news *news, const struct users_entry *e) {
    struct kit_user *u = user_find(k, e->name);
    if (u)
        return u;
    u = ht_calloc(1, sizeof *u);
    if (!u)
        return NULL;
    ht_list_push_back(&news->users, &u->node);
    io_share_init(k->loop, &u->up);
    io_share_init(k->loop, &u->down);
    snprintf(u->name, sizeof u->name, "%s", e->name);
    return u;
}

static int prepare(struct kit *k, struct users_file *f, struct news *news, struct kit_user **users) {
    for (size_t i = 0; i < f->n; i++) {
        users[i] = user_for(k, news, &f->users[i]);
        for (size_t j = 0; users[i] && j < f->users[i].n_digests; j++) {
            if (pass_find(k, users[i], f->users[i].digests[j]))
                continue;
            struct kit_pass *p = pass_new(users[i], f->users[i].digests[j]);
            if (!p)
                return HT_ENOMEM;
            ht_list_push_back(&news->passes, &p->node);
        }
        if (!users[i])
            return HT_ENOMEM;
    }
    return HT_OK;
}

static void forget(struct news *news) {
    struct ht_list *n;
    while ((n = ht_list_pop_front(&news->passes)))
        ht_free(HT_LIST_ENTRY(n, struct kit_pass, node));
    while ((n = ht_list_pop_front(&news->users)))
        ht_free(HT_LIST_ENTRY(n, struct kit_user, node));
}

/* Those that are there are gone, unless the file says otherwise. */
static void mark_all_gone(struct kit *k) {
    HT_LIST_FOR (it, &k->passes) {
        struct kit_pass *p = HT_LIST_ENTRY(it, struct kit_pass, node);
        p->was_gone = p->gone;
        p->gone = true;
    }
    HT_LIST_FOR (it, &k->users) {
        struct kit_user *u = HT_LIST_ENTRY(it, struct kit_user, node);
        u->admin = u->lost_token = u->known = false;
    }
}

static void take_over(struct kit *k, struct users_file *f, struct news *news, struct kit_user **users, bool *changed) {
    struct ht_list *n;
    mark_all_gone(k);
    while ((n = ht_list_pop_front(&news->passes)))
        pass_add(k, HT_LIST_ENTRY(n, struct kit_pass, node));
    for (size_t i = 0; i < f->n; i++) {
        struct users_entry *e = &f->users[i];
        users_allowance_free(&users[i]->may);
        users[i]->may = e->may;
        users[i]->admin = e->admin;
        users[i]->known = true;
        users[i]->quota.max_streams = e->may.max_streams;
        if (users[i]->up.rate != e->may.rate) {
            io_share_set_rate(&users[i]->up, e->may.rate);
            io_share_set_rate(&users[i]->down, e->may.rate);
        }
        e->may = (struct kit_allowance){.modes = 0};
        for (size_t j = 0; j < e->n_digests; j++)
            pass_find(k, users[i], e->digests[j])->gone = false; /* prepare() has seen to it that it is there */
    }
    HT_LIST_FOR (it, &k->passes) {
        struct kit_pass *p = HT_LIST_ENTRY(it, struct kit_pass, node);
        p->user->lost_token = p->user->lost_token || (p->gone && !p->was_gone);
        *changed = *changed || (p->gone && !p->was_gone);
    }
    ht_list_splice(&k->users, &news->users);
    k->has_token = true;
}

int users_load(struct kit *k, bool *changed, struct ht_errmsg *err) {
    struct ht_buf text = {0};
    struct users_file f = {.n = 0};
    struct news news;
    struct kit_user **users = NULL;
    ht_list_init(&news.users);
    ht_list_init(&news.passes);
    *changed = false;
    int rc = read_all(k, &text, err);
    if (rc == HT_OK)
        rc = users_file_parse(&f, k->opt->users, text.data ? (const char *)ht_buf_head(&text) : "", ht_buf_size(&text),
                              err);
    if (rc == HT_OK) {
        users = ht_calloc(f.n + 1, sizeof *users);
        rc = users ? prepare(k, &f, &news, users) : HT_ENOMEM;
        if (rc == HT_OK)
            take_over(k, &f, &news, users, changed);
        else
            ht_fail(err, rc, "out of memory");
    }
    forget(&news);
    ht_free(users);
    users_file_free(&f);
    ht_buf_free(&text);
    return rc;
}

/* ---- what a user may do ---- */

static bool ports_contain(const struct kit_allowance *may, uint16_t port) {
    return !may->ports_given || opt_ports_contain(may->ports, may->n_ports, port);
}

/* Ends a list of which only the first `done` items had room. */
static void put_rest(char *out, size_t cap, size_t done, size_t all) {
    if (done < all)
        snprintf(out, cap, done ? ", ..." : "...");
}

/* Writes a list such as "3000-3999, 8080", or as much of it as fits. */
static void list_ports(const struct kit_allowance *may, char *out, size_t cap) {
    size_t n = 0, i;
    out[0] = '\0';
    for (i = 0; i < may->n_ports && n + 24 < cap; i++) {
        const struct opt_port_range *r = &may->ports[i];
        n += (size_t)snprintf(out + n, cap - n, r->first == r->last ? "%s%u" : "%s%u-%u", i ? ", " : "", r->first,
                              r->last);
    }
    put_rest(out + n, cap - n, i, may->n_ports);
    if (may->n_ports == 0)
        snprintf(out, cap, "none");
}

static const char *mode_text(enum kit_mode m) {
    return m == KIT_MODE_EXPOSE ? "expose" : m == KIT_MODE_PULL ? "pull ports" : "register names";
}

/* The modes that a BIND needs, as bits of enum kit_mode. */
static unsigned modes_of(const struct wire_bind *b) {
    unsigned modes = b->mode == WIRE_MODE_EXPOSE ? KIT_MODE_EXPOSE : b->portless ? 0 : KIT_MODE_PULL;
    return modes | (b->n_names ? KIT_MODE_REACH : 0);
}

bool user_may_bind(const struct kit_user *u, const struct wire_bind *bind, struct ht_errmsg *err) {
    char all[160];
    unsigned forbidden = modes_of(bind) & ~u->may.modes;
    if (forbidden) {
        enum kit_mode m = forbidden & KIT_MODE_EXPOSE ? KIT_MODE_EXPOSE
                          : forbidden & KIT_MODE_PULL ? KIT_MODE_PULL
                                                      : KIT_MODE_REACH;
        ht_fail(err, 0, "the user %s may not %s here (modes)", u->name, mode_text(m));
        return false;
    }
    bool none = u->may.ports_given && u->may.n_ports == 0 && !bind->portless;
    if (!none && (bind->container_port == 0 || ports_contain(&u->may, bind->container_port)))
        return true;
    list_ports(&u->may, all, sizeof all);
    ht_fail(err, 0, "the user %s may not have port %u; the user's ports are %s", u->name, bind->container_port, all);
    return false;
}

uint16_t user_pick_port(const struct kit_user *u) {
    uint32_t all = 0, r;
    for (size_t i = 0; i < u->may.n_ports; i++)
        all += (uint32_t)u->may.ports[i].last - u->may.ports[i].first + 1;
    if (all == 0)
        return 0;
    ht_random_bytes(&r, sizeof r);
    r %= all;
    for (size_t i = 0;; i++) {
        uint32_t n = (uint32_t)u->may.ports[i].last - u->may.ports[i].first + 1;
        if (r < n)
            return (uint16_t)(u->may.ports[i].first + r);
        r -= n;
    }
}

/* True when the text up to `end` matches the pattern, in which `*` stands for any characters but dots. */
static bool matches(const char *pattern, const char *text, const char *end) {
    for (; *pattern && *pattern != '*'; pattern++, text++)
        if (text == end || *pattern != *text)
            return false;
    if (!*pattern)
        return text == end;
    do {
        if (matches(pattern + 1, text, end))
            return true;
    } while (text < end && *text++ != '.');
    return false;
}

static bool names_allow(const struct kit_allowance *may, const char *host, const char *end, const char *label_end) {
    if (!may->names_given)
        return label_end != NULL;
    for (size_t i = 0; i < may->n_names; i++) {
        const char *pattern = may->names[i];
        bool one_label = strchr(pattern, '.') == NULL;
        if (one_label ? label_end && matches(pattern, host, label_end) : matches(pattern, host, end))
            return true;
    }
    return false;
}

/* "bob-*, app.bob.example", or as much of it as has room. */
static void list_names(const struct kit_allowance *may, const char *domain, char *out, size_t cap) {
    size_t n = 0, i;
    out[0] = '\0';
    for (i = 0; i < may->n_names && n + strlen(may->names[i]) + 8 < cap; i++)
        n += (size_t)snprintf(out + n, cap - n, "%s%s", i ? ", " : "", may->names[i]);
    put_rest(out + n, cap - n, i, may->n_names);
    if (!may->names_given)
        snprintf(out, cap, "those below %s", domain);
    else if (may->n_names == 0)
        snprintf(out, cap, "none");
}

bool user_may_name(const struct kit_user *u, const char *host, const char *domain, struct ht_errmsg *err) {
    char all[160];
    size_t n = strlen(host), below = strlen(domain);
    const char *end = host + n, *label_end = NULL;
    if (n > below + 1 && host[n - below - 1] == '.' && strcmp(host + n - below, domain) == 0)
        label_end = end - below - 1;
    if (u->admin || names_allow(&u->may, host, end, label_end))
        return true;
    list_names(&u->may, domain, all, sizeof all);
    ht_fail(err, 0, "the user %s may not have the host %s; the user's names are %s", u->name, host, all);
    return false;
}
