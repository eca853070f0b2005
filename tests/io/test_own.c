/* Which addresses are this machine's own, in a network of the test's own. */
#include "io/io.h"
#include "support/netns.h"

#include <net/if.h>
#include <netinet/in.h>
#include <string.h>

static struct io_addr near_at(const char *host, const char *interface) {
    struct io_addr a;
    struct sockaddr_in6 v6;
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&a, host, 80), 0);
    memcpy(&v6, &a.ss, sizeof v6);
    v6.sin6_scope_id = if_nametoindex(interface);
    CU_ASSERT_FATAL(v6.sin6_scope_id > 0);
    memcpy(&a.ss, &v6, sizeof v6);
    return a;
}

/* Off: keep_scope(). */
static void which_addresses_are_own(void) {
    static const struct {
        const char *host;
        bool own;
    } rows[] = {{"192.0.2.1", true},        {"192.0.2.3", false},        {"127.0.0.1", true}, {"::1", true},
                {"::ffff:192.0.2.1", true}, {"::ffff:192.0.2.3", false}, {"fe80::77", false}};
    if (!enter_network())
        return;
    SH("ip -6 addr add fe80::77/64 dev e0 nodad");
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct io_addr a;
        CU_ASSERT_EQUAL_FATAL(io_addr_parse(&a, rows[i].host, 80), 0);
        CU_ASSERT_EQUAL(io_addr_is_own(&a), rows[i].own);
    }
    struct io_addr here = near_at("fe80::77", "e0"), elsewhere = near_at("fe80::77", "d0"),
                   another = near_at("fe80::78", "e0");
    CU_ASSERT(io_addr_is_own(&here));
    CU_ASSERT(!io_addr_is_own(&elsewhere));
    CU_ASSERT(!io_addr_is_own(&another));
}

int main(void) {
    static const struct tap_test tests[] = {
        {"which addresses are this machine's own", which_addresses_are_own},
        {NULL, NULL},
    };
    return tap_main("io: own addresses", tests);
}
