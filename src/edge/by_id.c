#include "edge/by_id.h"

#include "base/mem.h"

/* Where the id is, or belongs. */
static size_t place_of(const struct edge_by_id *t, const char *id) {
    size_t low = 0, high = t->n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (memcmp(t->entries[middle].id, id, EDGE_ID) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_at(const struct edge_by_id *t, size_t i, const char *id) {
    return i < t->n && memcmp(t->entries[i].id, id, EDGE_ID) == 0;
}

struct edge_by_id_entry *edge_by_id_find(const struct edge_by_id *t, const char *id) {
    size_t i = place_of(t, id);
    return is_at(t, i, id) ? &t->entries[i] : NULL;
}

struct edge_by_id_entry *edge_by_id_take(struct edge_by_id *t, const char *id) {
    size_t i = place_of(t, id);
    if (is_at(t, i, id))
        return &t->entries[i];
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 16;
        struct edge_by_id_entry *more = ht_realloc(t->entries, cap * sizeof *more);
        if (!more)
            return NULL;
        t->entries = more;
        t->cap = cap;
    }
    memmove(&t->entries[i + 1], &t->entries[i], (t->n - i) * sizeof *t->entries);
    t->n++;
    t->entries[i] = (struct edge_by_id_entry){.value = NULL};
    memcpy(t->entries[i].id, id, EDGE_ID);
    return &t->entries[i];
}

void edge_by_id_remove(struct edge_by_id *t, struct edge_by_id_entry *e) {
    memmove(e, e + 1, (size_t)(t->entries + t->n - e - 1) * sizeof *e);
    t->n--;
}

void edge_by_id_free(struct edge_by_id *t) {
    ht_free(t->entries);
    *t = (struct edge_by_id){0};
}

unsigned edge_revision(struct ht_slice text) {
    uint64_t hash = HT_HASH;
    for (size_t i = 0; i < text.n; i++)
        hash = ht_hash_char(hash, text.p[i]);
    return (unsigned)hash;
}
