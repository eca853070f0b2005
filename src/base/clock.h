/* Time and random numbers. Pure rooms never call this: their callers hand them time and random numbers. */
#ifndef HT_BASE_CLOCK_H
#define HT_BASE_CLOCK_H

#include "base/base.h"

/* The monotonic clock in milliseconds, and in microseconds. Setting the wall clock does not change it. */
uint64_t ht_now_ms(void);
uint64_t ht_now_us(void);

/*
 * Wall clock minus monotonic clock. The difference changes when the wall clock is set. It also grows by the time that
 * the machine was suspended, because the monotonic clock stops meanwhile.
 */
int64_t ht_wall_offset_ms(void);

/*
 * For tests: advances the clock by `us` for every thread, so that timers of hours fire at once. The kernel's own clocks
 * do not follow: the descriptor of io_loop_fd() becomes readable at the real time.
 */
void ht_clock_skip(uint64_t us);

/* The wall clock as text (RFC 3339), UTC with milliseconds: "2026-01-31T12:00:00.000Z". Returns `out`. */
#define HT_TIME_TEXT 32
char *ht_now_text(char out[HT_TIME_TEXT]);

/* Writes `n` unguessable bytes from the kernel. Aborts the process when the kernel has none: ids and tokens would be
 * guessable. */
void ht_random_bytes(void *p, size_t n);

/* A random UUID, version 4 (RFC 9562 5.4): 36 characters in lower case and a NUL. */
void ht_uuid4(char out[37]);

/* True when both are equal. The time it takes depends on the lengths only, and not on the bytes. For secrets. */
bool ht_const_time_eq(const void *a, size_t an, const void *b, size_t bn);

#endif
