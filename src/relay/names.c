#include "relay/names_priv.h"

#include "base/clock.h"
#include "base/mem.h"
#include "relay/visitor_priv.h"

#define BUCKETS_MIN 16u

/* ---- the index ---- */

/*
 * Hashes are FNV-1a of the host from its last character to its first. So one pass over a host has the hashes of all of
 * its ends, by which wildcards are looked up.
 */
static uint32_t hash_end(uint64_t h, uint16_t port, bool wildcard) {
    h = (h ^ port) * 0x100000001b3u;
    h = (h ^ (wildcard ? 0x100u : 0u)) * 0x100000001b3u;
    return (uint32_t)(h ^ h >> 32);
}

static uint64_t hash_host(const struct relay_name_index *x, const char *host) {
    uint64_t h = x->seed;
    for (size_t i = strlen(host); i > 0; i--)
        h = ht_hash_char(h, host[i - 1]);
    return h;
}

static struct relay_name *look(const struct relay_name_index *x, const void *user, uint64_t host_hash, const char *host,
                               uint16_t port, bool wildcard) {
    if (x->n_buckets == 0)
        return NULL;
    uint32_t hash = hash_end(host_hash, port, wildcard);
    for (struct relay_name *e = x->bucket[hash & (x->n_buckets - 1)]; e; e = e->next)
        if (e->hash == hash && e->port == port && e->wildcard == wildcard && (x->shared || e->b->owner->user == user) &&
            strcmp(e->host, host) == 0)
            return e;
    return NULL;
}

/* A name for this port goes before a name for every port. */
static struct relay_name *look_ports(const struct relay_name_index *x, const void *user, uint64_t hash,
                                     const char *host, uint16_t port, bool wildcard) {
    struct relay_name *e = look(x, user, hash, host, port, wildcard);
    return e ? e : look(x, user, hash, host, 0, wildcard);
}

/* Rule NAME-5. */
static struct relay_name *find(const struct relay_name_index *x, const void *user, const char *host, uint16_t port) {
    struct relay_name *longest = NULL;
    bool name = !wire_host_is_address(host);
    uint64_t h = x->seed;
    for (size_t i = strlen(host); i > 0; i--) {
        if (name && host[i - 1] == '.') {
            struct relay_name *e = look_ports(x, user, h, host + i, port, true);
            longest = e ? e : longest;
        }
        h = ht_hash_char(h, host[i - 1]);
    }
    struct relay_name *exact = look_ports(x, user, h, host, port, false);
    return exact ? exact : longest;
}

static void put(struct relay_name_index *x, struct relay_name *e) {
    struct relay_name **at = &x->bucket[e->hash & (x->n_buckets - 1)];
    e->next = *at;
    *at = e;
}

int relay_names_reserve(struct relay_name_index *x, const struct relay_names *names) {
    size_t want = x->used + names->n_entries, n = x->n_buckets ? x->n_buckets : BUCKETS_MIN;
    while (n < want)
        n *= 2;
    if (n == x->n_buckets)
        return HT_OK;
    struct relay_name **bigger = ht_calloc(n, sizeof *bigger);
    if (!bigger)
        return HT_ENOMEM;
    struct relay_name_index old = *x;
    x->bucket = bigger;
    x->n_buckets = n;
    if (!old.n_buckets)
        ht_random_bytes(&x->seed, sizeof x->seed);
    for (size_t i = 0; i < old.n_buckets; i++)
        for (struct relay_name *e = old.bucket[i], *next; e; e = next) {
            next = e->next;
            put(x, e);
        }
    ht_free(old.bucket);
    return HT_OK;
}

struct relay_name *relay_names_holder(const struct relay_name_index *x, const void *user, const struct relay_name *e) {
    return look(x, user, hash_host(x, e->host), e->host, e->port, e->wildcard);
}

struct relay_name *relay_names_exact(const struct relay_name_index *x, const char *host) {
    return look(x, NULL, hash_host(x, host), host, 0, false);
}

void relay_names_add(struct relay_name_index *x, struct relay_names *names, struct relay_binding *b) {
    for (size_t i = 0; i < names->n_entries; i++) {
        struct relay_name *e = &names->entries[i];
        if (relay_names_holder(x, b->owner->user, e)) /* twice in this BIND: example.com and example.com:443 */
            continue;
        e->b = b;
        e->hash = hash_end(hash_host(x, e->host), e->port, e->wildcard);
        put(x, e);
        x->used++;
    }
}

void relay_names_remove(struct relay_name_index *x, struct relay_names *names) {
    for (size_t i = 0; names && i < names->n_entries; i++) {
        struct relay_name *e = &names->entries[i];
        if (!e->b)
            continue;
        struct relay_name **at = &x->bucket[e->hash & (x->n_buckets - 1)];
        while (*at != e)
            at = &(*at)->next;
        *at = e->next;
        e->b = NULL;
        x->used--;
    }
}

void relay_name_index_free(struct relay_name_index *x) {
    ht_free(x->bucket);
    *x = (struct relay_name_index){.bucket = NULL};
}

/* ---- reading the names of a BIND ---- */

static struct ht_slice keep(char **at, const char *text, size_t n) {
    struct ht_slice kept = ht_slice_of(*at, n);
    memcpy(*at, text, n);
    (*at)[n] = '\0';
    *at += n + 1;
    return kept;
}

/* `host` must live as long as the names. */
static void add_entries(struct relay_names *names, const struct wire_name *name, const char *host) {
    static const uint16_t web[] = {80, 443};
    bool both = name->ports == WIRE_NAME_WEB;
    for (size_t i = 0; i < (both ? HT_ARRAY_LEN(web) : 1); i++)
        names->entries[names->n_entries++] = (struct relay_name){
            .host = host,
            .port = both ? web[i] : name->port,
            .wildcard = name->wildcard,
        };
}

static bool has(const struct relay_names *names, const char *text) {
    for (size_t i = 0; i < names->n; i++)
        if (ht_slice_is(names->texts[i], text))
            return true;
    return false;
}

/* Checks the names. *size: how many bytes their texts need. 0, or HT_EINVAL with *err. */
static int measure(const struct wire_bind *bind, size_t *size, struct ht_errmsg *err) {
    char text[WIRE_NAME_ROOM];
    struct wire_name name;
    *size = bind->has_ca ? bind->ca.n + 1 : 0;
    for (size_t i = 0; i < bind->n_names; i++) {
        int rc = wire_name_read(&name, bind->names[i], err);
        if (rc)
            return rc;
        *size += strlen(wire_name_put(&name, text)) + strlen(name.host) + 2;
    }
    return HT_OK;
}

int relay_names_read(const struct wire_bind *bind, struct relay_names **out, struct ht_errmsg *err) {
    size_t n = bind->n_names, size;
    char text[WIRE_NAME_ROOM];
    struct wire_name name;
    *out = NULL;
    int rc = measure(bind, &size, err);
    if (rc || n == 0)
        return rc;
    struct relay_names *r = ht_calloc(1, sizeof *r + 2 * n * sizeof *r->entries + n * sizeof *r->texts + size);
    if (!r)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    r->entries = (struct relay_name *)(void *)(r + 1);
    r->texts = (struct ht_slice *)(void *)(r->entries + 2 * n);
    char *at = (char *)(r->texts + n);
    for (size_t i = 0; i < n; i++) {
        if (wire_name_read(&name, bind->names[i], err) || has(r, wire_name_put(&name, text)))
            continue;
        r->texts[r->n++] = keep(&at, text, strlen(text));
        add_entries(r, &name, keep(&at, name.host, strlen(name.host)).p);
    }
    if (bind->has_ca)
        r->ca = keep(&at, bind->ca.p, bind->ca.n);
    *out = r;
    return HT_OK;
}

void relay_names_free(struct relay_names **names) {
    ht_free(*names);
    *names = NULL;
}

/* ---- visitors by name ---- */

enum relay_name_state relay_name_find(const struct relay_table *t, const void *user, const char *host, uint16_t port,
                                      struct relay_binding **out) {
    struct relay_name *e = find(&t->names, user, host, port);
    *out = e ? e->b : NULL;
    if (!e)
        return RELAY_NAME_NONE;
    return relay_binding_serves(e->b) ? RELAY_NAME_LIVE : RELAY_NAME_PARKED;
}

void relay_name_enter(struct relay_name_visitor *v, struct relay_binding *b, const struct relay_name_visitor_ops *ops) {
    *v = (struct relay_name_visitor){.b = b, .ops = ops};
    ht_list_init(&v->node);
    ht_list_push_back(&b->by_name, &v->node);
    b->n_by_name++;
}

void relay_name_leave(struct relay_name_visitor *v) {
    if (!v->b)
        return;
    ht_list_remove(&v->node);
    v->b->n_by_name--;
    v->b = NULL;
}

void relay_name_drop_visitors(struct relay_binding *b, uint16_t code, const char *reason) {
    while (!ht_list_empty(&b->by_name)) {
        struct relay_name_visitor *v = HT_LIST_ENTRY(b->by_name.next, struct relay_name_visitor, node);
        relay_name_leave(v);
        v->ops->gone(v, code, reason);
    }
}

int relay_name_open(const struct relay_name_visitor *v, const char *host, uint16_t port, const char *peer,
                    const struct mux_stream_ops *ops, void *ctx, struct mux_stream **out) {
    char authority[WIRE_NAME_ROOM];
    struct relay_binding *b = v->b;
    struct mux_session *mux = relay_binding_mux(b);
    struct wire_stream_open open = {
        .kind = WIRE_KIND_TCP,
        .bind_id = b->id,
        .has_container_port = b->port->number != 0,
        .container_port = b->port->number,
        .has_peer_addr = true,
        .peer_addr = ht_slice_str(peer),
        .has_authority = true,
        .authority = ht_slice_str(wire_authority_put(host, port, authority)),
    };
    *out = NULL;
    return mux ? mux_stream_open(mux, &open, ops, ctx, out) : HT_ECLOSED;
}
