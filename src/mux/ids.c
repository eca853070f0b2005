/*
 * Which stream ids a driver has seen (STREAM-1). The kit's ids grow, but those of a session with several links may
 * overtake each other on the way.
 */
#include "base/mem.h"
#include "mux/mux_priv.h"

/* Before gap `i`. */
static void gap_insert(struct id_gaps *g, unsigned i, struct id_gap gap) {
    if (g->n == MUX_GAPS_MAX) { /* the oldest has waited longest */
        memmove(g->gap, g->gap + 1, --g->n * sizeof *g->gap);
        if (i == 0)
            return;
        i--;
    }
    if (g->n == g->cap) {
        unsigned cap = g->cap ? g->cap * 2 : 8;
        struct id_gap *more = ht_realloc(g->gap, cap * sizeof *more);
        if (!more)
            return;
        g->gap = more;
        g->cap = cap;
    }
    memmove(g->gap + i + 1, g->gap + i, (g->n++ - i) * sizeof *g->gap);
    g->gap[i] = gap;
}

/* Takes `id` out of gap `i`, at one end or in its middle. */
static void gap_cut(struct id_gaps *g, unsigned i, uint32_t id) {
    struct id_gap *gap = &g->gap[i];
    if (gap->first == id && gap->last == id) {
        memmove(gap, gap + 1, (--g->n - i) * sizeof *gap);
    } else if (gap->first == id) {
        gap->first += 2;
    } else if (gap->last == id) {
        gap->last -= 2;
    } else {
        struct id_gap below = {gap->first, id - 2};
        gap->first = id + 2;
        gap_insert(g, i, below);
    }
}

bool ids_take(struct mux_session *s, uint32_t id) {
    struct id_gaps *g = &s->gaps;
    if (s->ids_used_up)
        return false;
    if (id >= s->next_id) {
        if (id > s->next_id && s->cfg.version == WIRE_V2) /* v1: nothing comes behind a greater one */
            gap_insert(g, g->n, (struct id_gap){s->next_id, id - 2});
        s->ids_used_up = id > UINT32_MAX - 2;
        s->next_id = id + 2;
        return true;
    }
    for (unsigned i = g->n; i-- > 0;) {
        if (id < g->gap[i].first)
            continue;
        if (id > g->gap[i].last)
            return false;
        gap_cut(g, i, id);
        return true;
    }
    return false;
}

void ids_free(struct mux_session *s) {
    ht_free(s->gaps.gap);
    s->gaps = (struct id_gaps){.n = 0};
}
