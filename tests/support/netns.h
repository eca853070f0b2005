/*
 * A network of the test's own, for the rest of its process: two cables, d0-e0 and d1-e1, of which d0 has 192.0.2.1 and
 * 192.0.2.2. What connects to 192.0.2.1 does so from 192.0.2.2, as if another machine were there.
 */
#ifndef HT_TESTS_NETNS_H
#define HT_TESTS_NETNS_H

#include "support/tap.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SH(command) CU_ASSERT_EQUAL_FATAL(system(command), 0)

/* How 192.0.2.1 is reached. */
#define WAY_FROM(address) "ip route replace local 192.0.2.1 dev d0 table local src " address

/* False: it cannot be made here, and a line says so. */
static inline bool enter_network(void) {
    static const char make[] =
        "ip link set lo up && ip link add d0 type veth peer name e0 && "
        "ip link add d1 type veth peer name e1 && "
        "for i in d0 e0 e1; do ip link set $i up || exit 1; done && "
        "ip addr add 192.0.2.1/24 dev d0 && ip addr add 192.0.2.2/24 dev d0 && " WAY_FROM("192.0.2.2");
    if (geteuid() == 0 && unshare(CLONE_NEWNET) == 0 && system(make) == 0)
        return true;
    printf("# skipped: a network namespace needs root, the right to make one, ip and virtual interfaces\n");
    return false;
}

#endif
