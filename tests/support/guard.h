/* Turning an event loop for so many turns, or until something has come about, with a guard against waiting for ever. */
#ifndef HT_TESTS_GUARD_H
#define HT_TESTS_GUARD_H

#include "io/io.h"

struct guard {
    struct io_timer t;
    bool over;
};

static inline void guard_fire(struct io_timer *t) { ht_container_of(t, struct guard, t)->over = true; }

/* Turns until `*flag` is not 0 or `ms` have passed. */
static inline bool loop_until(struct io_loop *loop, const int *flag, uint64_t ms) {
    struct guard g = {.over = false};
    io_timer_init(loop, &g.t, guard_fire);
    io_timer_set(&g.t, ms);
    while (!*flag && !g.over)
        io_loop_turn(loop, true);
    io_timer_stop(&g.t);
    return *flag != 0;
}

static inline void loop_turns(struct io_loop *loop, int n) {
    while (n--)
        io_loop_turn(loop, false);
}

#endif
