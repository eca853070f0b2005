#include "gate/login.h"

#include "base/base64.h"
#include "base/clock.h"
#include "base/mem.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>

#define KEY_LEN 32

struct known {
    uint8_t key[KEY_LEN];
    uint64_t until_ms; /* 0: none */
};

struct failed {
    uint8_t source[IO_SOURCE_LEN];
    unsigned n; /* 0: not in use */
    uint64_t at_ms, until_ms;
};

/* A password that is being checked. */
struct check {
    struct ht_list node;
    struct gate_login *l;
    struct io_work *work;
    struct ht_list waits;
    uint8_t key[KEY_LEN], source[IO_SOURCE_LEN];
    bool nobody; /* there is no such user: it is only computed so that this takes as long */
};

struct gate_login {
    struct io_loop *loop;
    struct gate_passwords passwords;
    uint8_t secret[KEY_LEN];
    struct known known[GATE_LOGIN_REMEMBERED];
    unsigned next_known;
    struct failed failed[GATE_LOGIN_ADDRESSES];
    struct ht_list checks;
    unsigned n_checks;
};

struct gate_login *gate_login_create(struct io_loop *loop, struct gate_passwords *p) {
    struct gate_login *l = ht_calloc(1, sizeof *l);
    if (!l)
        return NULL;
    l->loop = loop;
    ht_list_init(&l->checks);
    ht_random_bytes(l->secret, sizeof l->secret);
    gate_login_set(l, p);
    return l;
}

static void check_free(struct check *c) {
    io_work_cancel(&c->work);
    ht_list_remove(&c->node);
    c->l->n_checks--;
    ht_free(c);
}

void gate_login_destroy(struct gate_login **lp) {
    struct gate_login *l = *lp;
    *lp = NULL;
    if (!l)
        return;
    while (!ht_list_empty(&l->checks))
        check_free(HT_LIST_ENTRY(l->checks.next, struct check, node));
    gate_passwords_free(&l->passwords);
    explicit_bzero(l, sizeof *l);
    ht_free(l);
}

void gate_login_set(struct gate_login *l, struct gate_passwords *p) {
    gate_passwords_free(&l->passwords);
    l->passwords = *p;
    *p = (struct gate_passwords){.n = 0};
    ht_random_bytes(l->secret, sizeof l->secret); /* what is remembered, or being checked, fits no longer */
    memset(l->known, 0, sizeof l->known);
}

/* ---- what is remembered ---- */

static bool is_known(const struct gate_login *l, const uint8_t key[KEY_LEN], uint64_t now) {
    bool found = false;
    for (size_t i = 0; i < HT_ARRAY_LEN(l->known); i++)
        found |= ht_const_time_eq(l->known[i].key, KEY_LEN, key, KEY_LEN) && l->known[i].until_ms > now;
    return found;
}

static void remember(struct gate_login *l, const uint8_t key[KEY_LEN]) {
    struct known *k = &l->known[l->next_known++ % HT_ARRAY_LEN(l->known)];
    memcpy(k->key, key, KEY_LEN);
    k->until_ms = io_now_ms(l->loop) + GATE_LOGIN_GOOD_MS;
}

/* ---- addresses that are slowed down ---- */

static struct failed *find_failed(struct gate_login *l, const uint8_t source[IO_SOURCE_LEN]) {
    for (size_t i = 0; i < HT_ARRAY_LEN(l->failed); i++)
        if (l->failed[i].n && memcmp(l->failed[i].source, source, IO_SOURCE_LEN) == 0)
            return &l->failed[i];
    return NULL;
}

/* Each check counts as failed until it has succeeded: many at once gain nothing. */
static void charge(struct gate_login *l, const uint8_t source[IO_SOURCE_LEN]) {
    struct failed *f = find_failed(l, source);
    uint64_t now = io_now_ms(l->loop);
    for (size_t i = 0; !f && i < HT_ARRAY_LEN(l->failed); i++)
        if (!l->failed[i].n)
            f = &l->failed[i];
    if (!f) /* the one that has failed least lately makes room */
        for (size_t i = 0; i < HT_ARRAY_LEN(l->failed); i++)
            if (!f || l->failed[i].at_ms < f->at_ms)
                f = &l->failed[i];
    if (memcmp(f->source, source, IO_SOURCE_LEN) != 0 || now > f->at_ms + GATE_LOGIN_FORGET_MS)
        f->n = 0;
    memcpy(f->source, source, IO_SOURCE_LEN);
    f->n++;
    f->at_ms = now;
    unsigned over = f->n > GATE_LOGIN_FREE ? f->n - GATE_LOGIN_FREE : 0;
    f->until_ms = over ? now + ht_min64(GATE_LOGIN_WAIT_MAX_MS, (uint64_t)1000 << ht_min(over - 1, 16)) : 0;
}

static void forgive(struct gate_login *l, const uint8_t source[IO_SOURCE_LEN]) {
    struct failed *f = find_failed(l, source);
    if (f)
        f->n = 0;
}

/* ---- a check ---- */

static void tell(struct check *c, enum gate_login_result result) {
    struct ht_list *it;
    while ((it = ht_list_pop_front(&c->waits)) != NULL) {
        struct gate_login_wait *w = HT_LIST_ENTRY(it, struct gate_login_wait, node);
        w->done(w, result);
    }
}

static void on_checked(void *ctx, const void *out) {
    struct check *c = ctx;
    struct gate_login *l = c->l;
    bool fits = out && *(const uint8_t *)out == 1 && !c->nobody;
    c->work = NULL;
    if (fits) {
        remember(l, c->key);
        forgive(l, c->source);
    }
    ht_list_remove(&c->node); /* now: those who are told may ask again */
    ht_list_init(&c->node);
    tell(c, fits ? GATE_LOGIN_GOOD : out ? GATE_LOGIN_BAD : GATE_LOGIN_BUSY);
    check_free(c);
}

/* On a thread. `in` is a hash and a password, each with a NUL. */
static void run_check(const void *in, size_t n, void *out) {
    const char *hash = in, *password = hash + strlen(hash) + 1;
    (void)n;
    *(uint8_t *)out = gate_password_fits(hash, password);
}

static struct check *find_check(struct gate_login *l, const uint8_t key[KEY_LEN]) {
    HT_LIST_FOR (it, &l->checks) {
        struct check *c = HT_LIST_ENTRY(it, struct check, node);
        if (ht_const_time_eq(c->key, KEY_LEN, key, KEY_LEN))
            return c;
    }
    return NULL;
}

static struct check *check_start(struct gate_login *l, struct ht_slice name, struct ht_slice password,
                                 const uint8_t key[KEY_LEN], const uint8_t source[IO_SOURCE_LEN]) {
    char in[GATE_HASH_MAX + GATE_PASSWORD_MAX + 2];
    const struct gate_user *u = gate_passwords_find(&l->passwords, name);
    const char *hash = u ? u->hash : l->passwords.users[0].hash;
    size_t n = strlen(hash) + 1;
    struct check *c = l->n_checks < GATE_LOGIN_CHECKS ? ht_calloc(1, sizeof *c) : NULL;
    if (!c)
        return NULL;
    memcpy(in, hash, n);
    memcpy(in + n, password.p, password.n);
    in[n + password.n] = '\0';
    c->l = l;
    c->nobody = !u;
    memcpy(c->key, key, KEY_LEN);
    memcpy(c->source, source, IO_SOURCE_LEN);
    ht_list_init(&c->waits);
    ht_list_init(&c->node);
    ht_list_push_back(&l->checks, &c->node);
    l->n_checks++;
    c->work = io_work_start(l->loop, run_check, in, n + password.n + 1, on_checked, c);
    explicit_bzero(in, sizeof in);
    if (!c->work) {
        check_free(c);
        return NULL;
    }
    charge(l, source);
    return c;
}

/* ---- a request ---- */

/* Reads "Basic" and base64 of NAME:PASSWORD into `out`. */
static bool read_basic(struct ht_slice value, char *out, size_t cap, struct ht_slice *name, struct ht_slice *password) {
    static const char scheme[] = "basic ";
    size_t at = sizeof scheme - 1;
    if (value.n < at || !ht_slice_case_eq(ht_slice_of(value.p, at), ht_slice_of(scheme, at)))
        return false;
    while (at < value.n && value.p[at] == ' ')
        at++;
    ssize_t n = (value.n - at) / 4 * 3 <= cap ? ht_base64_get((uint8_t *)out, value.p + at, value.n - at) : -1;
    if (n <= 0 || memchr(out, '\0', (size_t)n))
        return false;
    char *colon = memchr(out, ':', (size_t)n);
    if (!colon)
        return false;
    *name = ht_slice_of(out, (size_t)(colon - out));
    *password = ht_slice_of(colon + 1, (size_t)n - name->n - 1);
    return name->n <= GATE_USER_MAX && password->n <= GATE_PASSWORD_MAX;
}

static enum gate_login_result ask(struct gate_login *l, struct ht_slice name, struct ht_slice password,
                                  const uint8_t key[KEY_LEN], const struct io_addr *from, struct gate_login_wait *w,
                                  unsigned *wait_s) {
    uint8_t source[IO_SOURCE_LEN] = {0};
    uint64_t now = io_now_ms(l->loop);
    if (is_known(l, key, now))
        return GATE_LOGIN_GOOD;
    if (from)
        io_addr_source(from, source);
    struct check *c = find_check(l, key);
    const struct failed *f = c ? NULL : find_failed(l, source);
    if (f && f->until_ms > now) {
        *wait_s = (unsigned)((f->until_ms - now + 999) / 1000);
        return GATE_LOGIN_SLOW;
    }
    if (!c && !(c = check_start(l, name, password, key, source)))
        return GATE_LOGIN_BUSY;
    ht_list_init(&w->node);
    ht_list_push_back(&c->waits, &w->node);
    return GATE_LOGIN_ASKED;
}

enum gate_login_result gate_login_ask(struct gate_login *l, struct ht_slice authorization, const struct io_addr *from,
                                      struct gate_login_wait *w, unsigned *wait_s) {
    char text[GATE_USER_MAX + GATE_PASSWORD_MAX + 4];
    struct ht_slice name, password;
    uint8_t key[KEY_LEN];
    unsigned n = sizeof key;
    enum gate_login_result rc = GATE_LOGIN_BAD;
    if (read_basic(authorization, text, sizeof text, &name, &password)) {
        if (HMAC(EVP_sha256(), l->secret, KEY_LEN, (const unsigned char *)name.p, name.n + 1 + password.n, key, &n))
            rc = ask(l, name, password, key, from, w, wait_s);
        else
            rc = GATE_LOGIN_BUSY;
    }
    explicit_bzero(text, sizeof text);
    return rc;
}

void gate_login_cancel(struct gate_login_wait *w) { ht_list_remove(&w->node); }
