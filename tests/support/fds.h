/* Whether descriptors were left open. */
#ifndef HT_TESTS_FDS_H
#define HT_TESTS_FDS_H

#include "support/tap.h"

#include "base/clock.h"
#include "io/io.h"

#include <poll.h>
#include <stdbool.h>

/* Whether as many descriptors are open as before, in the end: a thread that has looked a name up closes its end of a
 * pair a moment after its answer was taken. */
static inline bool fds_are_back(int before) {
    uint64_t end = ht_now_ms() + PATIENCE_MS;
    while (io_count_fds() != before && ht_now_ms() < end)
        (void)poll(NULL, 0, 1);
    return io_count_fds() == before;
}

#endif
