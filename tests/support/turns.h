/*
 * Waiting for a condition while an event loop turns. The file that includes this has defined TEST_LOOP, an expression
 * for its struct io_loop *, and included io/io.h, base/clock.h and CUnit.
 */
#ifndef HT_TESTS_TURNS_H
#define HT_TESTS_TURNS_H

#include "support/tap.h"

#include <poll.h>

static inline void one_turn(void) {
    struct pollfd p = {.fd = io_loop_fd(TEST_LOOP), .events = POLLIN};
    (void)poll(&p, 1, 2);
    io_loop_turn(TEST_LOOP, false);
}

/* Handles what is ready, and waits for nothing. */
static inline void ready_turn(void) { io_loop_turn(TEST_LOOP, false); }

/* Turns the loop until `cond`; a test that waits in vain fails and stops. */
#define UNTIL(cond)                                                                                                    \
    do {                                                                                                               \
        uint64_t end_ = ht_now_ms() + PATIENCE_MS;                                                                     \
        while (!(cond) && ht_now_ms() < end_)                                                                          \
            one_turn();                                                                                                \
        CU_ASSERT_FATAL(!!(cond));                                                                                     \
    } while (0)

/* A few turns, for what must not happen. */
static inline void settle(void) {
    for (int i = 0; i < 20; i++)
        ready_turn();
}

#endif
