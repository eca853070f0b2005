/* Time and randomness as parameters: the pure rooms never ask the system themselves. */
#ifndef HT_BASE_CLOCK_H
#define HT_BASE_CLOCK_H

#include "base/base.h"

/* Milliseconds and microseconds on the monotonic clock; a wall clock that jumps does not move them. */
uint64_t ht_now_ms(void);
uint64_t ht_now_us(void);

/*
 * How far the wall clock is ahead of the monotonic one. It changes when somebody sets the clock, and by the time that
 * the machine slept: the monotonic clock stands still then.
 */
int64_t ht_wall_offset_ms(void);

/*
 * For tests: from now on the clock is `us` further on, for every thread, so that hours of timers pass in a moment.
 * Descriptors that the kernel watches by its own clock (io_loop_fd) do not know of it.
 */
void ht_clock_skip(uint64_t us);

/* The wall clock as RFC 3339 has it, UTC with milliseconds: "2026-01-31T12:00:00.000Z". Returns `out`. */
#define HT_TIME_TEXT 32
char *ht_now_text(char out[HT_TIME_TEXT]);

/* `n` unguessable bytes from the kernel. Aborts when there are none: nothing safe can go on without. */
void ht_random_bytes(void *p, size_t n);

/* A version 4 UUID in lower case, 36 characters and NUL (RFC 9562 5.4). */
void ht_uuid4(char out[37]);

/* True when equal; takes the same time whatever the bytes are. Lengths may leak. */
bool ht_const_time_eq(const void *a, size_t an, const void *b, size_t bn);

#endif
