#include "edge/tickets.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/mem.h"
#include "edge/policy_priv.h"

#include <stdio.h>

#define RANDOM 32
#define CONTAINER 64
#define BUCKETS 4096 /* a power of two */

struct ticket {
    struct ht_list node; /* in edge_tickets.used */
    struct ticket *next; /* in its bucket */
    uint8_t digest[DIGEST];
    char container[CONTAINER], group[POLICY_NAME_MAX + 1];
    uint64_t policy, end_ms, idle_ms, idle_end_ms;
};

struct edge_tickets {
    struct io_loop *loop;
    struct ht_list used; /* the one that was used longest ago is the first */
    size_t n;
    struct ticket *buckets[BUCKETS];
};

struct edge_tickets *edge_tickets_create(struct io_loop *loop) {
    struct edge_tickets *t = ht_calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->loop = loop;
    ht_list_init(&t->used);
    return t;
}

/* Digests of random texts are spread evenly, and nobody can choose one. */
static struct ticket **bucket_of(struct edge_tickets *t, const uint8_t digest[DIGEST]) {
    return &t->buckets[((size_t)digest[0] << 8 | digest[1]) % BUCKETS];
}

static void drop(struct edge_tickets *t, struct ticket *one) {
    struct ticket **at = bucket_of(t, one->digest);
    while (*at != one)
        at = &(*at)->next;
    *at = one->next;
    ht_list_remove(&one->node);
    t->n--;
    ht_free(one);
}

void edge_tickets_destroy(struct edge_tickets **tp) {
    struct edge_tickets *t = *tp;
    *tp = NULL;
    if (!t)
        return;
    while (!ht_list_empty(&t->used))
        drop(t, HT_LIST_ENTRY(t->used.next, struct ticket, node));
    ht_free(t);
}

size_t edge_tickets_count(const struct edge_tickets *t) { return t->n; }

/* The letters of base64url, which a cookie may have. */
static void write_text(const uint8_t bytes[RANDOM], char out[EDGE_TICKET]) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned bits = 0, have = 0;
    size_t n = 0;
    for (size_t i = 0; i < RANDOM; i++) {
        bits = bits << 8 | bytes[i];
        for (have += 8; have >= 6; have -= 6)
            out[n++] = letters[bits >> (have - 6) & 63];
    }
    out[n++] = letters[bits << (6 - have) & 63];
    out[n] = '\0';
}

/* Makes room: what is over goes, then what was used longest ago, of the container or of all. */
static void make_room(struct edge_tickets *t, struct ht_slice container, uint64_t now) {
    struct ticket *oldest = NULL;
    size_t n = 0;
    HT_LIST_FOR_SAFE (it, &t->used) {
        struct ticket *one = HT_LIST_ENTRY(it, struct ticket, node);
        if (one->end_ms <= now || one->idle_end_ms <= now) {
            drop(t, one);
        } else if (ht_slice_is(container, one->container)) {
            oldest = oldest ? oldest : one;
            n++;
        }
    }
    if (n >= EDGE_TICKETS_OF_CONTAINER)
        drop(t, oldest);
    else if (t->n >= EDGE_TICKETS_MAX)
        drop(t, HT_LIST_ENTRY(t->used.next, struct ticket, node));
}

int edge_tickets_issue(struct edge_tickets *t, const struct edge_ticket_for *f, char out[EDGE_TICKET]) {
    uint8_t bytes[RANDOM];
    uint64_t now = io_now_ms(t->loop);
    if (f->container.n >= CONTAINER || f->group.n > POLICY_NAME_MAX)
        return HT_EINVAL;
    make_room(t, f->container, now);
    struct ticket *one = ht_calloc(1, sizeof *one);
    if (!one)
        return HT_ENOMEM;
    ht_random_bytes(bytes, sizeof bytes);
    write_text(bytes, out);
    explicit_bzero(bytes, sizeof bytes);
    if (!edge_digest(ht_slice_str(out), ht_slice_of("", 0), one->digest)) {
        ht_free(one);
        return HT_ENOMEM;
    }
    snprintf(one->container, sizeof one->container, "%.*s", HT_SLICE_ARG(f->container));
    snprintf(one->group, sizeof one->group, "%.*s", HT_SLICE_ARG(f->group));
    one->policy = f->policy;
    one->end_ms = now + (uint64_t)f->max_age_s * 1000;
    one->idle_ms = (uint64_t)f->idle_s * 1000;
    one->idle_end_ms = now + one->idle_ms;
    struct ticket **at = bucket_of(t, one->digest);
    one->next = *at;
    *at = one;
    ht_list_push_back(&t->used, &one->node);
    t->n++;
    return HT_OK;
}

static struct ticket *find(struct edge_tickets *t, struct ht_slice text) {
    uint8_t digest[DIGEST];
    if (text.n != EDGE_TICKET - 1 || !edge_digest(text, ht_slice_of("", 0), digest))
        return NULL;
    for (struct ticket *one = *bucket_of(t, digest); one; one = one->next)
        if (ht_const_time_eq(one->digest, DIGEST, digest, DIGEST))
            return one;
    return NULL;
}

bool edge_tickets_use(struct edge_tickets *t, struct ht_slice text, struct ht_slice container, uint64_t policy,
                      struct ht_slice *group) {
    struct ticket *one = find(t, text);
    uint64_t now = io_now_ms(t->loop);
    if (!one || !ht_slice_is(container, one->container))
        return false;
    if (one->policy != policy || one->end_ms <= now || one->idle_end_ms <= now) {
        drop(t, one);
        return false;
    }
    one->idle_end_ms = now + one->idle_ms;
    ht_list_remove(&one->node);
    ht_list_push_back(&t->used, &one->node);
    *group = ht_slice_str(one->group);
    return true;
}

void edge_tickets_end(struct edge_tickets *t, struct ht_slice text, struct ht_slice container) {
    struct ticket *one = find(t, text);
    if (one && ht_slice_is(container, one->container))
        drop(t, one);
}
