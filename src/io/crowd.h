/*
 * A crowd is a set of connections that have not authenticated yet, counted by source address. When a crowd is full, its
 * user closes a connection of the address with the most members, so that one address cannot keep others out (hardening
 * case 28).
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

struct crowd_member {
    struct ht_list node;
    uint8_t source[IO_SOURCE_LEN];
    unsigned same; /* members with the same source, this one included */
};

static inline void crowd_init(struct crowd *c) {
    ht_list_init(&c->members);
    c->n = 0;
}

/* How many members have the source of `from`. */
static inline unsigned crowd_count(const struct crowd *c, const struct io_addr *from) {
    uint8_t source[IO_SOURCE_LEN];
    io_addr_source(from, source);
    HT_LIST_FOR (it, &c->members) {
        const struct crowd_member *m = HT_LIST_ENTRY(it, struct crowd_member, node);
        if (memcmp(m->source, source, sizeof source) == 0)
            return m->same;
    }
    return 0;
}

static inline void crowd_join(struct crowd *c, struct crowd_member *m, const struct io_addr *from) {
    io_addr_source(from, m->source);
    m->same = 1;
    HT_LIST_FOR (it, &c->members) {
        struct crowd_member *other = HT_LIST_ENTRY(it, struct crowd_member, node);
        if (memcmp(other->source, m->source, sizeof m->source) == 0)
            m->same = ++other->same;
    }
    ht_list_push_back(&c->members, &m->node);
    c->n++;
}

/* The oldest member of the source that has most of them. NULL: there are none. */
static inline struct crowd_member *crowd_heaviest(const struct crowd *c) {
    struct crowd_member *heaviest = NULL;
    HT_LIST_FOR (it, &c->members) {
        struct crowd_member *m = HT_LIST_ENTRY(it, struct crowd_member, node);
        if (!heaviest || m->same > heaviest->same)
            heaviest = m;
    }
    return heaviest;
}

static inline void crowd_leave(struct crowd *c, struct crowd_member *m) {
    ht_list_remove(&m->node);
    c->n--;
    HT_LIST_FOR (it, &c->members) {
        struct crowd_member *other = HT_LIST_ENTRY(it, struct crowd_member, node);
        if (memcmp(other->source, m->source, sizeof m->source) == 0)
            other->same--;
    }
}

#endif
