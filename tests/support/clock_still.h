/*
 * A monotonic clock that stands still, so that nothing is late however busy the machine is: time passes when the test
 * says ht_clock_skip(), and only then. Include it in one file of the program, which turns its loops without waiting for
 * long (support/turns.h). A test that waits in vain still ends: after STILL_FOR_S the clock goes on.
 */
#ifndef HT_TESTS_CLOCK_STILL_H
#define HT_TESTS_CLOCK_STILL_H

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define STILL_FOR_S 120

int clock_gettime(clockid_t which, struct timespec *out);

__attribute__((visibility("default"))) int clock_gettime(clockid_t which, struct timespec *out) {
    static struct timespec began;
    if (syscall(SYS_clock_gettime, which, out) != 0)
        return -1;
    if (which == CLOCK_MONOTONIC) {
        if (began.tv_sec == 0)
            began = *out;
        if (out->tv_sec - began.tv_sec < STILL_FOR_S)
            *out = began;
    }
    return 0;
}

#endif
