/*
 * A monotonic clock that a test program moves ahead: clock_gettime() of the program itself goes before the C library's,
 * for the rooms and for libev alike. Include it in one file of the program. What waits in the kernel is not hastened,
 * so turn a loop without waiting.
 */
#ifndef HT_TESTS_CLOCK_AHEAD_H
#define HT_TESTS_CLOCK_AHEAD_H

#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static uint64_t clock_ahead_ms;

int clock_gettime(clockid_t which, struct timespec *out);

__attribute__((visibility("default"))) int clock_gettime(clockid_t which, struct timespec *out) {
    if (syscall(SYS_clock_gettime, which, out) != 0)
        return -1;
    if (which == CLOCK_MONOTONIC || which == CLOCK_REALTIME) { /* they go on together */
        out->tv_sec += (time_t)(clock_ahead_ms / 1000);
        out->tv_nsec += (long)(clock_ahead_ms % 1000) * 1000000;
        if (out->tv_nsec >= 1000000000) {
            out->tv_sec++;
            out->tv_nsec -= 1000000000;
        }
    }
    return 0;
}

#endif
