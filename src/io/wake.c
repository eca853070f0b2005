#include "base/clock.h"
#include "io/io_priv.h"

#include <stdlib.h>

#define LOOK_MS 5000
#define JUMP_MS 2000 /* less than that is a clock that is being adjusted */

static void look(struct io_timer *timer) {
    struct io_wake *w = ht_container_of(timer, struct io_wake, timer);
    int64_t offset = ht_wall_offset_ms(), by = llabs(offset - w->offset_ms);
    w->offset_ms = offset;
    io_timer_set(timer, LOOK_MS);
    if (by >= JUMP_MS)
        w->woke(w);
}

void io_wake_start(struct io_loop *loop, struct io_wake *w, void (*woke)(struct io_wake *)) {
    io_timer_init(loop, &w->timer, look);
    w->woke = woke;
    w->offset_ms = ht_wall_offset_ms();
    io_timer_set(&w->timer, LOOK_MS);
}

void io_wake_stop(struct io_wake *w) {
    if (w->timer.fire)
        io_timer_stop(&w->timer);
}
