/* What is kept for ids of projects or containers, found by the id: a sorted array. The values are the owner's. */
#ifndef HT_EDGE_BY_ID_H
#define HT_EDGE_BY_ID_H

#include "edge/edge_priv.h"

/* A zero-initialised one is empty. */
struct edge_by_id {
    struct edge_by_id_entry {
        char id[EDGE_ID + 1];
        void *value; /* may be NULL */
    } * entries;     /* sorted by id */
    size_t n, cap;
};

/* `id` has EDGE_ID bytes, and need not end with a NUL. NULL: there is none. Valid until the next change. */
struct edge_by_id_entry *edge_by_id_find(const struct edge_by_id *t, const char *id);
/* The same, made with the value NULL where there is none. NULL: out of memory, and nothing has changed. */
struct edge_by_id_entry *edge_by_id_take(struct edge_by_id *t, const char *id) HT_MUST_USE;
void edge_by_id_remove(struct edge_by_id *t, struct edge_by_id_entry *e);
/* Frees the array, and no value. */
void edge_by_id_free(struct edge_by_id *t);

/* What changes when a document's text does: the lower half of a hash, for the field `revision` of a map. */
unsigned edge_revision(struct ht_slice text);

#endif
