/*
 * A crowd is a set of connections that scarce places are shared by. They are counted by source address, as long as
 * nobody has authenticated, or by user. When a crowd is full, whoever has most of its members gives one up, so that one
 * address or user cannot keep others out (hardening cases 28 and 37).
 *
 * Joining and leaving visit every member. The users of a crowd bound its size.
 */
#ifndef HT_IO_CROWD_H
#define HT_IO_CROWD_H

#include "base/list.h"
#include "io/io.h"

struct crowd {
    struct ht_list members; /* oldest first */
    unsigned n;
};

/* What members have in common that are counted together. */
struct crowd_key {
    const void *user;              /* NULL: the address */
    uint8_t source[IO_SOURCE_LEN]; /* zeros beside a user */
};

static inline struct crowd_key crowd_by_address(const struct io_addr *from) {
    struct crowd_key k = {.user = NULL};
    io_addr_source(from, k.source);
    return k;
}

static inline struct crowd_key crowd_by_user(const void *user) { return (struct crowd_key){.user = user}; }

static inline bool crowd_alike(const struct crowd_key *a, const struct crowd_key *b) {
    return a->user == b->user && memcmp(a->source, b->source, sizeof a->source) == 0;
}

struct crowd_member {
    struct ht_list node;
    struct crowd_key key;
    unsigned same; /* members with the same key, this one included */
};

static inline void crowd_init(struct crowd *c) {
    ht_list_init(&c->members);
    c->n = 0;
}

/* How many members have that key. */
static inline unsigned crowd_count(const struct crowd *c, const struct crowd_key *key) {
    HT_LIST_FOR (it, &c->members) {
        const struct crowd_member *m = HT_LIST_ENTRY(it, struct crowd_member, node);
        if (crowd_alike(&m->key, key))
            return m->same;
    }
    return 0;
}

static inline void crowd_join(struct crowd *c, struct crowd_member *m, struct crowd_key key) {
    m->key = key;
    m->same = 1;
    HT_LIST_FOR (it, &c->members) {
        struct crowd_member *other = HT_LIST_ENTRY(it, struct crowd_member, node);
        if (crowd_alike(&other->key, &key))
            m->same = ++other->same;
    }
    ht_list_push_back(&c->members, &m->node);
    c->n++;
}

/* The oldest member of the key that has most of them. NULL: there are none. */
static inline struct crowd_member *crowd_heaviest(const struct crowd *c) {
    struct crowd_member *heaviest = NULL;
    HT_LIST_FOR (it, &c->members) {
        struct crowd_member *m = HT_LIST_ENTRY(it, struct crowd_member, node);
        if (!heaviest || m->same > heaviest->same)
            heaviest = m;
    }
    return heaviest;
}

/* The same, when it would still have as many as the newcomer's key then has. NULL: nobody goes for that one. */
static inline struct crowd_member *crowd_gives(const struct crowd *c, struct crowd_key newcomer) {
    struct crowd_member *heaviest = crowd_heaviest(c);
    return heaviest && heaviest->same > crowd_count(c, &newcomer) + 1 ? heaviest : NULL;
}

static inline void crowd_leave(struct crowd *c, struct crowd_member *m) {
    ht_list_remove(&m->node);
    c->n--;
    HT_LIST_FOR (it, &c->members) {
        struct crowd_member *other = HT_LIST_ENTRY(it, struct crowd_member, node);
        if (crowd_alike(&other->key, &m->key))
            other->same--;
    }
}

#endif
