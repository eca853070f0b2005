#include "auth/login.h"

#include "base/base64.h"
#include "base/clock.h"
#include "base/mem.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <stdio.h>

#define KEY_LEN 32
#define WAYS 4 /* places that a remembered login may have */

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
    struct auth_login *l;
    struct io_work *work;
    struct ht_list waits;
    uint8_t key[KEY_LEN], source[IO_SOURCE_LEN];
    uint64_t scope;
    bool nobody; /* there is no such user: it is only computed so that this takes as long */
};

struct auth_login {
    struct io_loop *loop;
    struct auth_passwords passwords;
    EVP_MAC_CTX *mac; /* with the key: to make one anew for each request takes longer than all the rest */
    uint64_t seed;    /* of scopes' hashes */
    struct known known[AUTH_LOGIN_REMEMBERED];
    struct failed failed[AUTH_LOGIN_ADDRESSES];
    struct ht_list checks;
    unsigned n_checks;
};

/* A keyed hash with a key of its own. NULL: no memory. */
static EVP_MAC_CTX *make_mac(void) {
    char sha256[] = "SHA256";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, sha256, 0),
                                 OSSL_PARAM_construct_end()};
    uint8_t secret[KEY_LEN];
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *mac = hmac ? EVP_MAC_CTX_new(hmac) : NULL;
    EVP_MAC_free(hmac);
    ht_random_bytes(secret, sizeof secret);
    if (mac && EVP_MAC_init(mac, secret, sizeof secret, params) != 1) {
        EVP_MAC_CTX_free(mac);
        mac = NULL;
    }
    explicit_bzero(secret, sizeof secret);
    return mac;
}

struct auth_login *auth_login_create(struct io_loop *loop, struct auth_passwords *p) {
    struct auth_login *l = ht_calloc(1, sizeof *l);
    if (!l)
        return NULL;
    l->mac = make_mac();
    if (!l->mac) {
        ht_free(l);
        return NULL;
    }
    l->loop = loop;
    ht_list_init(&l->checks);
    ht_random_bytes(&l->seed, sizeof l->seed);
    auth_login_set(l, p);
    return l;
}

static void check_free(struct check *c) {
    io_work_cancel(&c->work);
    ht_list_remove(&c->node);
    c->l->n_checks--;
    ht_free(c);
}

void auth_login_destroy(struct auth_login **lp) {
    struct auth_login *l = *lp;
    *lp = NULL;
    if (!l)
        return;
    while (!ht_list_empty(&l->checks))
        check_free(HT_LIST_ENTRY(l->checks.next, struct check, node));
    auth_passwords_free(&l->passwords);
    EVP_MAC_CTX_free(l->mac);
    explicit_bzero(l, sizeof *l);
    ht_free(l);
}

void auth_login_set(struct auth_login *l, struct auth_passwords *p) {
    auth_passwords_free(&l->passwords);
    l->passwords = *p;
    *p = (struct auth_passwords){.n = 0};
}

/* ---- what is remembered ---- */

/* Where a key may be. Keys are unpredictable, so it tells nothing of what is remembered. */
static struct known *places(struct auth_login *l, const uint8_t key[KEY_LEN]) {
    size_t at = ((size_t)key[0] << 8 | key[1]) * WAYS % HT_ARRAY_LEN(l->known);
    return &l->known[at];
}

static bool is_known(struct auth_login *l, const uint8_t key[KEY_LEN], uint64_t now) {
    const struct known *k = places(l, key);
    bool found = false;
    for (size_t i = 0; i < WAYS; i++)
        found |= ht_const_time_eq(k[i].key, KEY_LEN, key, KEY_LEN) && k[i].until_ms > now;
    return found;
}

/* The one that would be forgotten first makes room. */
static void remember(struct auth_login *l, const uint8_t key[KEY_LEN]) {
    struct known *all = places(l, key), *k = all;
    for (size_t i = 1; i < WAYS; i++)
        if (all[i].until_ms < k->until_ms)
            k = &all[i];
    memcpy(k->key, key, KEY_LEN);
    k->until_ms = io_now_ms(l->loop) + AUTH_LOGIN_GOOD_MS;
}

/* ---- addresses that are slowed down ---- */

static struct failed *find_failed(struct auth_login *l, const uint8_t source[IO_SOURCE_LEN]) {
    for (size_t i = 0; i < HT_ARRAY_LEN(l->failed); i++)
        if (l->failed[i].n && memcmp(l->failed[i].source, source, IO_SOURCE_LEN) == 0)
            return &l->failed[i];
    return NULL;
}

/* Each check counts as failed until it has succeeded: many at once gain nothing. */
static void charge(struct auth_login *l, const uint8_t source[IO_SOURCE_LEN]) {
    struct failed *f = find_failed(l, source);
    uint64_t now = io_now_ms(l->loop);
    for (size_t i = 0; !f && i < HT_ARRAY_LEN(l->failed); i++)
        if (!l->failed[i].n)
            f = &l->failed[i];
    if (!f) /* the one that has failed least lately makes room */
        for (size_t i = 0; i < HT_ARRAY_LEN(l->failed); i++)
            if (!f || l->failed[i].at_ms < f->at_ms)
                f = &l->failed[i];
    if (memcmp(f->source, source, IO_SOURCE_LEN) != 0 || now > f->at_ms + AUTH_LOGIN_FORGET_MS)
        f->n = 0;
    memcpy(f->source, source, IO_SOURCE_LEN);
    f->n++;
    f->at_ms = now;
    unsigned over = f->n > AUTH_LOGIN_FREE ? f->n - AUTH_LOGIN_FREE : 0;
    f->until_ms = over ? now + ht_min64(AUTH_LOGIN_WAIT_MAX_MS, (uint64_t)1000 << ht_min(over - 1, 16)) : 0;
}

static void forgive(struct auth_login *l, const uint8_t source[IO_SOURCE_LEN]) {
    struct failed *f = find_failed(l, source);
    if (f)
        f->n = 0;
}

/* ---- a check ---- */

static void tell(struct check *c, enum auth_login_result result) {
    struct ht_list *it;
    while ((it = ht_list_pop_front(&c->waits)) != NULL) {
        struct auth_login_wait *w = HT_LIST_ENTRY(it, struct auth_login_wait, node);
        w->done(w, result);
    }
}

static void on_checked(void *ctx, const void *out) {
    struct check *c = ctx;
    struct auth_login *l = c->l;
    bool fits = out && *(const uint8_t *)out == 1 && !c->nobody;
    c->work = NULL;
    if (fits) {
        remember(l, c->key);
        forgive(l, c->source);
    }
    ht_list_remove(&c->node); /* now: those who are told may ask again */
    ht_list_init(&c->node);
    tell(c, fits ? AUTH_LOGIN_GOOD : out ? AUTH_LOGIN_BAD : AUTH_LOGIN_BUSY);
    check_free(c);
}

/* On a thread. `in` is a hash and a password, each with a NUL. */
static void run_check(const void *in, size_t n, void *out) {
    const char *hash = in, *password = hash + strlen(hash) + 1;
    (void)n;
    *(uint8_t *)out = auth_password_fits(hash, password);
}

static struct check *find_check(struct auth_login *l, const uint8_t key[KEY_LEN]) {
    HT_LIST_FOR (it, &l->checks) {
        struct check *c = HT_LIST_ENTRY(it, struct check, node);
        if (ht_const_time_eq(c->key, KEY_LEN, key, KEY_LEN))
            return c;
    }
    return NULL;
}

static bool is_full(const struct auth_login *l, uint64_t scope) {
    unsigned n = 0;
    HT_LIST_FOR (it, &l->checks)
        n += HT_LIST_ENTRY(it, struct check, node)->scope == scope;
    return scope && n >= AUTH_LOGIN_SCOPE_CHECKS;
}

/* A hash that nobody's password has, for names that nobody has. */
static const char *some_hash(const struct auth_login *l) {
    return l->passwords.n ? l->passwords.users[0].hash : AUTH_NOBODY_HASH;
}

static struct check *check_start(struct auth_login *l, const struct auth_claim *claim, const uint8_t key[KEY_LEN],
                                 uint64_t scope, const uint8_t source[IO_SOURCE_LEN]) {
    char in[AUTH_HASH_MAX + AUTH_PASSWORD_MAX + 2];
    const char *hash = claim->hash ? claim->hash : some_hash(l);
    size_t n = strlen(hash) + 1;
    struct check *c = l->n_checks < AUTH_LOGIN_CHECKS && !is_full(l, scope) ? ht_calloc(1, sizeof *c) : NULL;
    if (!c)
        return NULL;
    memcpy(in, hash, n);
    memcpy(in + n, claim->password.p, claim->password.n);
    in[n + claim->password.n] = '\0';
    c->l = l;
    c->nobody = !claim->hash;
    c->scope = scope;
    memcpy(c->key, key, KEY_LEN);
    memcpy(c->source, source, IO_SOURCE_LEN);
    ht_list_init(&c->waits);
    ht_list_init(&c->node);
    ht_list_push_back(&l->checks, &c->node);
    l->n_checks++;
    c->work = io_work_start(l->loop, run_check, in, n + claim->password.n + 1, on_checked, c);
    explicit_bzero(in, sizeof in);
    if (!c->work) {
        check_free(c);
        return NULL;
    }
    charge(l, source);
    return c;
}

/* ---- a request ---- */

bool auth_basic_read(struct ht_slice value, char out[AUTH_BASIC_MAX], struct ht_slice *name,
                     struct ht_slice *password) {
    static const char scheme[] = "basic ";
    size_t at = sizeof scheme - 1;
    if (value.n < at || !ht_slice_case_eq(ht_slice_of(value.p, at), ht_slice_of(scheme, at)))
        return false;
    while (at < value.n && value.p[at] == ' ')
        at++;
    ssize_t n =
        (value.n - at) / 4 * 3 <= AUTH_BASIC_MAX ? ht_base64_get((uint8_t *)out, value.p + at, value.n - at) : -1;
    if (n <= 0 || memchr(out, '\0', (size_t)n))
        return false;
    char *colon = memchr(out, ':', (size_t)n);
    if (!colon)
        return false;
    *name = ht_slice_of(out, (size_t)(colon - out));
    *password = ht_slice_of(colon + 1, (size_t)n - name->n - 1);
    return name->n <= AUTH_USER_MAX && password->n <= AUTH_PASSWORD_MAX;
}

/* What is remembered: a keyed hash of all that decides. With another hash, or none, a user's login fits no longer.
 * False: it cannot be made. */
static bool make_key(const struct auth_login *l, const struct auth_claim *claim, uint8_t key[KEY_LEN]) {
    char text[AUTH_HASH_MAX + AUTH_USER_MAX + AUTH_PASSWORD_MAX + 4], *at = text;
    size_t n = 0;
    ht_slice_copy(&at, ht_slice_str(claim->hash ? claim->hash : ""));
    *at++ = '\0';
    ht_slice_copy(&at, claim->name);
    *at++ = '\0';
    ht_slice_copy(&at, claim->password);
    bool ok = EVP_MAC_init(l->mac, NULL, 0, NULL) == 1 &&
              EVP_MAC_update(l->mac, (const unsigned char *)text, (size_t)(at - text)) == 1 &&
              EVP_MAC_final(l->mac, key, &n, KEY_LEN) == 1;
    explicit_bzero(text, sizeof text);
    return ok;
}

static uint64_t scope_of(const struct auth_login *l, struct ht_slice scope) {
    uint64_t h = l->seed;
    for (size_t i = 0; i < scope.n; i++)
        h = ht_hash_char(h, scope.p[i]);
    return scope.n ? h | 1 : 0;
}

/* Whose failures are counted: the address, for what it guesses at. */
static void source_of(const struct io_addr *from, uint64_t scope, uint8_t out[IO_SOURCE_LEN]) {
    memset(out, 0, IO_SOURCE_LEN);
    if (from)
        io_addr_source(from, out);
    for (size_t i = 0; i < IO_SOURCE_LEN; i++, scope >>= 8)
        out[i] ^= (uint8_t)scope;
}

static bool waits(struct auth_login *l, const uint8_t source[IO_SOURCE_LEN], unsigned *wait_s) {
    const struct failed *f = find_failed(l, source);
    uint64_t now = io_now_ms(l->loop);
    if (!f || f->until_ms <= now)
        return false;
    *wait_s = (unsigned)((f->until_ms - now + 999) / 1000);
    return true;
}

bool auth_login_waits(struct auth_login *l, struct ht_slice scope, const struct io_addr *from, unsigned *wait_s) {
    uint8_t source[IO_SOURCE_LEN];
    source_of(from, scope_of(l, scope), source);
    return waits(l, source, wait_s);
}

void auth_login_failed(struct auth_login *l, struct ht_slice scope, const struct io_addr *from) {
    uint8_t source[IO_SOURCE_LEN];
    source_of(from, scope_of(l, scope), source);
    charge(l, source);
}

bool auth_login_known(struct auth_login *l, const struct auth_claim *claim) {
    uint8_t key[KEY_LEN];
    return make_key(l, claim, key) && is_known(l, key, io_now_ms(l->loop));
}

enum auth_login_result auth_login_check(struct auth_login *l, const struct auth_claim *claim,
                                        const struct io_addr *from, struct auth_login_wait *w, unsigned *wait_s) {
    uint8_t source[IO_SOURCE_LEN], key[KEY_LEN];
    uint64_t scope = scope_of(l, claim->scope);
    if (!make_key(l, claim, key))
        return AUTH_LOGIN_BUSY;
    if (is_known(l, key, io_now_ms(l->loop)))
        return AUTH_LOGIN_GOOD;
    source_of(from, scope, source);
    struct check *c = find_check(l, key);
    if (!c && waits(l, source, wait_s))
        return AUTH_LOGIN_SLOW;
    if (!c && !(c = check_start(l, claim, key, scope, source)))
        return AUTH_LOGIN_BUSY;
    ht_list_init(&w->node);
    ht_list_push_back(&c->waits, &w->node);
    return AUTH_LOGIN_ASKED;
}

enum auth_login_result auth_login_ask(struct auth_login *l, struct ht_slice authorization, const struct io_addr *from,
                                      struct auth_login_wait *w, unsigned *wait_s) {
    char text[AUTH_BASIC_MAX];
    struct auth_claim claim = {.hash = NULL};
    enum auth_login_result rc = AUTH_LOGIN_BAD;
    if (auth_basic_read(authorization, text, &claim.name, &claim.password)) {
        const struct auth_user *u = auth_passwords_find(&l->passwords, claim.name);
        claim.hash = u ? u->hash : NULL;
        rc = auth_login_check(l, &claim, from, w, wait_s);
    }
    explicit_bzero(text, sizeof text);
    return rc;
}

void auth_login_cancel(struct auth_login_wait *w) { ht_list_remove(&w->node); }
